// Filter the index of runs by the words of a query, and sort it by date.
(() => {
  "use strict";
  const list = document.querySelector(".index-runs");
  const query = document.querySelector(".index-tools input");
  const order = document.querySelector(".index-tools select");
  const count = document.querySelector(".index-count");
  const newestFirst = [...list.children];
  const texts = new Map(newestFirst.map((run) => [run, run.textContent.toLowerCase()]));

  function filter() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [run, text] of texts) run.hidden = !words.every((word) => text.includes(word));
    const shown = newestFirst.filter((run) => !run.hidden).length;
    count.textContent = words.length ? `${shown} of ${newestFirst.length}` : "";
  }

  query.addEventListener("input", filter);
  order.addEventListener("change", () => {
    list.append(...(order.value === "oldest" ? [...newestFirst].reverse() : newestFirst));
  });
  filter(); // a browser keeps the typed query when the page is loaded again
})();
