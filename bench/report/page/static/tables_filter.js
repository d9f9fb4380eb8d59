// Menus in which a reader chooses the methods, metrics or networks, and the columns that a block of tables shows.
(() => {
  "use strict";
  const textOf = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
  const rowsOf = (body) => [...body.rows].filter((row) => !row.classList.contains("page-group"));

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // A menu with a checkbox per name. change(hidden) is called with the set of unchecked names, at first `off`.
  function menu(title, names, change, off = []) {
    const hidden = new Set(off);
    const boxes = names.map((name) => {
      const box = element("input", { type: "checkbox", checked: !hidden.has(name) });
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(name); else hidden.add(name);
        update();
      });
      return [name, box];
    });
    const all = element("button", { type: "button" });
    all.addEventListener("click", () => {
      const show = hidden.size > 0;
      for (const [name, box] of boxes) {
        box.checked = show;
        if (show) hidden.delete(name); else hidden.add(name);
      }
      update();
    });
    const summary = element("summary");
    function update() {
      const shown = names.length - hidden.size;
      summary.textContent = hidden.size ? `${title}: ${shown} of ${names.length}` : title;
      all.textContent = hidden.size ? "Show all" : "Show none";
      change(hidden);
    }
    const choices = boxes.map(([name, box]) => element("label", {}, box, element("span", { textContent: name })));
    const made = element("details", { className: "tables-menu" }, summary, element("div", {}, all, ...choices));
    made.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !made.open) return;
      made.open = false;
      summary.focus();
    });
    update();
    return made;
  }

  document.addEventListener("click", (event) => {
    for (const open of document.querySelectorAll(".tables-menu[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });

  function distinct(texts) {
    return [...new Set(texts)];
  }

  function filters(tables) {
    const bodies = tables.flatMap((table) => [...table.tBodies]);
    const off = { rows: new Set(), groups: new Set() };
    const firstOf = (row) => textOf(row.cells[0]);
    function update() {
      for (const body of bodies) {
        const rows = rowsOf(body);
        for (const row of rows) row.hidden = off.rows.has(firstOf(row));
        body.hidden = off.groups.has(body.dataset.group) || rows.every((row) => row.hidden);
      }
    }
    const first = textOf(tables[0].tHead.rows[0].cells[0]);
    const names = distinct(bodies.flatMap(rowsOf).map(firstOf));
    const groups = distinct(bodies.map((body) => body.dataset.group).filter(Boolean));
    const kind = bodies.some((body) => body.dataset.metric) ? "Metrics" : "Networks";
    return [
      ...(names.length > 2 ? [menu(first.endsWith("s") ? first : `${first}s`, names, (hidden) => { off.rows = new Set(hidden); update(); })] : []),
      ...(groups.length > 1 ? [menu(kind, groups, (hidden) => { off.groups = new Set(hidden); update(); })] : []),
    ];
  }

  function columnMenu(tables) {
    const heads = (table) => [...table.tHead.rows[0].cells];
    const names = distinct(tables.flatMap((table) => heads(table).slice(1).map(textOf)));
    return menu("Columns", names, (hidden) => {
      for (const table of tables) {
        const shown = heads(table).map((head) => !hidden.has(textOf(head)));
        for (const row of table.rows) {
          if (row.classList.contains("page-group")) row.cells[0].colSpan = shown.filter(Boolean).length;
          else [...row.cells].forEach((cell, column) => { cell.hidden = !shown[column]; });
        }
      }
    }, tables.flatMap((table) => heads(table).filter((head) => "off" in head.dataset).map(textOf)));
  }

  for (const block of document.querySelectorAll(".tables-block")) {
    const tables = [...block.querySelectorAll("table")];
    if (tables.length) block.querySelector(".page-tools").append(...filters(tables), columnMenu(tables));
  }
})();
