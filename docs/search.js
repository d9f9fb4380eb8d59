// Browsers don't let a page from disk read the search index.
if (location.protocol === "file:") {
  const note = document.createElement("p");
  const command = document.createElement("code");
  note.className = "search-note";
  command.textContent = "python -m http.server --directory build/docs";
  note.append("Search needs a server. Run ", command, " and open http://localhost:8000.");
  document.querySelector(".md-main").before(note);
  document.documentElement.classList.add("without-search");
}
