// Filter the index of runs by the words of a query, and sort it by date or in the order of the page.
(() => {
  "use strict";
  const list = document.querySelector(".index-runs");
  const query = document.querySelector(".index-tools input");
  const order = document.querySelector(".index-tools select");
  const count = document.querySelector(".index-count");
  const runs = [...list.children];
  const newestFirst = [...runs].sort((a, b) => date(b) - date(a));
  const orders = { given: runs, newest: newestFirst, oldest: [...newestFirst].reverse() };
  const texts = new Map(runs.map((run) => [run, run.textContent.toLowerCase()]));

  function date(run) {
    return Date.parse(run.querySelector("time")?.dateTime) || 0; // 0: the run has no date
  }

  function filter() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [run, text] of texts) run.hidden = !words.every((word) => text.includes(word));
    const shown = runs.filter((run) => !run.hidden).length;
    count.textContent = words.length ? `${shown} of ${runs.length}` : "";
  }

  query.addEventListener("input", filter);
  order.addEventListener("change", () => list.append(...orders[order.value]));
  filter(); // a browser keeps the typed query when the page is loaded again
})();
