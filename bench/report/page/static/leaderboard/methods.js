// Show only the methods of one family whose names have every word of a query. The event "boardfilter" tells the other
// scripts: its detail is the set of the pages of the hidden methods.
(() => {
  "use strict";
  const { methods } = JSON.parse(document.getElementById("board").textContent);
  const tools = document.getElementById("board-filter");
  const [query, family, count] = ["input", "select", "span"].map((tag) => tools.querySelector(tag));
  const rows = [...document.querySelectorAll(".tables-block tbody tr")].map(
    (row) => [row, row.querySelector("th a")?.getAttribute("href")]);

  function filter() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = methods.filter((method) => (!family.value || method.family === family.value)
      && words.every((word) => `${method.title} ${method.name}`.toLowerCase().includes(word)));
    const hidden = new Set(methods.filter((method) => !shown.includes(method)).map((method) => method.page));
    for (const [row, page] of rows) row.classList.toggle("tables-out", hidden.has(page));
    if (hidden.size) for (const fold of document.querySelectorAll(".page-fold")) fold.open = true;
    count.textContent = hidden.size ? `${shown.length} of ${methods.length}` : "";
    document.dispatchEvent(new CustomEvent("boardfilter", { detail: hidden }));
  }

  query.addEventListener("input", filter);
  family.addEventListener("change", filter);
})();
