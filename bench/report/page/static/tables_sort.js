// Sort tables by a column. The button in a heading sorts the best first, then the worst first, then restores the order.
(() => {
  "use strict";
  const collator = new Intl.Collator("en", { numeric: true });
  const textOf = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
  const numbersOf = (cell) => (cell.dataset.numbers ? cell.dataset.numbers.split(";").map(Number) : []);

  function sortable(table) {
    const order = new Map([...table.tBodies].map((body) => [body, [...body.rows]]));
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const term = head.querySelector("a.page-term");
      const button = Object.assign(document.createElement("button"), { type: "button", className: "tables-sort" });
      if (term) {
        button.dataset.term = term.hash;
        const title = document.createElement("span");
        title.className = "tables-title";
        title.append(...term.childNodes);
        term.replaceWith(title);
      }
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const [first, second] = textOf(head).includes("\u2191") ? ["descending", "ascending"] : ["ascending", "descending"];
        const turn = { none: first, [first]: second, [second]: "none" };
        const direction = turn[head.getAttribute("aria-sort")];
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", direction);
        for (const [body, rows] of order) body.append(...sorted(rows, column, direction));
      });
    });
  }

  function sorted(rows, column, direction) {
    if (direction === "none") return rows;
    const sign = direction === "ascending" ? 1 : -1;
    const titles = rows.filter((row) => row.classList.contains("page-group"));
    const entries = rows.filter((row) => !row.classList.contains("page-group"));
    const isNumber = entries.some((row) => numbersOf(row.cells[column]).length);
    return [...titles, ...entries.sort((first, second) => {
      const [a, b] = [first.cells[column], second.cells[column]];
      if (!isNumber) return sign * collator.compare(textOf(a), textOf(b));
      const [x, y] = [numbersOf(a)[0], numbersOf(b)[0]];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // a cell without a number comes last
      return sign * (x - y);
    })];
  }

  document.querySelectorAll(".tables-block table").forEach(sortable);
})();
