// Draws the charts when they come into sight, and keeps them to the methods and the metric that the reader chose.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const figures = [...document.querySelectorAll(".chart")];
  const boxes = [...document.querySelectorAll(".chart-methods input")];
  const showAll = document.querySelector(".chart-all");
  const drawn = new Map(); // figure -> its views
  const hidden = new Set();

  // By its place: an attribute doesn't keep every sign of a name.
  const nameOf = (box) => data.methods[box.dataset.method].name;

  // As the report writes numbers: three digits, a true minus.
  function number(value) {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    const size = Math.abs(value);
    const sign = value < 0 ? "\u2212" : "";
    if (size === 0) return "0";
    if (size < 1e-6) return "<\u200910⁻⁶";
    if (Number.isInteger(value) || size >= 1000) return sign + Math.round(size).toLocaleString("en");
    if (size >= 1e-4) return sign + Number(size.toPrecision(3)).toFixed(Math.max(0, 2 - Math.floor(Math.log10(Number(size.toPrecision(3))))));
    const [digits, power] = size.toExponential(2).split("e");
    const exponent = [...power.replace("-", "")].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
    return `${sign}${digits} × 10⁻${exponent}`;
  }

  // A table by column as rows, with the style of the method that a row belongs to.
  function rows(name, columns) {
    const names = Object.keys(columns);
    const count = names.length ? columns[names[0]].length : 0;
    return Array.from({ length: count }, (_, index) => {
      const row = { table: name, index };
      for (const column of names) row[column] = columns[column][index];
      for (const kind in data.seen) if (kind in row) row[kind] = data.seen[kind][row[kind]];
      if ("method" in row) {
        const style = data.methods[row.method];
        Object.assign(row, style, { method: style.name });
      } else {
        Object.assign(row, { colour: "var(--accent)", shape: "circle", dash: [1, 0] });
      }
      return row;
    });
  }

  const PATHS = { // of Vega's shapes, for the switch
    circle: "M4.5,0A4.5,4.5,0,1,1,-4.5,0A4.5,4.5,0,1,1,4.5,0", square: "M-4,-4H4V4H-4Z", diamond: "M-4,0L0,-5.5L4,0L0,5.5Z",
    "triangle-up": "M0,-4.5L5,4H-5Z", "triangle-down": "M0,4.5L5,-4H-5Z", "triangle-right": "M4.5,0L-4,5V-5Z",
    cross: "M-1.7,-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z", stroke: "M-5,-1H5V1H-5Z",
  };
  function drawSign(sign) {
    const style = data.methods[sign.dataset.method];
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", PATHS[style.shape]);
    path.setAttribute("fill", style.colour);
    sign.append(path);
  }

  function element(name, text, className) {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  }

  // The values of the row where the pointer is, as text: names may hold anything.
  const tip = document.body.appendChild(element("div", undefined, "chart-tip"));
  tip.hidden = true;
  function hover(titles) {
    return (_, event, item, value) => {
      const row = item?.datum;
      if (!value || !(row.table in titles)) {
        tip.hidden = true;
        return;
      }
      const list = element("dl");
      for (const [column, title] of Object.entries(titles[row.table])) {
        if (row[column] !== "") list.append(element("dt", title), element("dd", number(row[column])));
      }
      tip.replaceChildren(list);
      tip.hidden = false;
      const { clientWidth: width } = document.documentElement;
      tip.style.left = `${Math.max(4, Math.min(event.pageX + 12, scrollX + width - tip.offsetWidth - 4))}px`;
      tip.style.top = `${event.pageY + 14}px`;
    };
  }

  // A file of its own: with the colours of the theme in place of the page's custom properties.
  function download(svg, title) {
    const colours = getComputedStyle(document.documentElement);
    const text = svg.outerHTML.replace(/var\((--[\w-]+)\)/g, (_, name) => colours.getPropertyValue(name).trim());
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    link.download = `${title.replace(/[^\w.-]+/g, "_")}.svg`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function panelOf(panel) {
    const box = element("div", undefined, "chart-panel");
    const plot = element("div", undefined, "chart-plot");
    plot.style.minWidth = `${panel.min_width}px`;
    plot.style.minHeight = `${panel.height + panel.axis}px`; // so that what follows doesn't move when it is drawn
    const save = element("button", "Save SVG", "chart-save");
    save.type = "button";
    save.addEventListener("click", () => download(plot.querySelector("svg"), panel.title));
    const head = element("div", undefined, "chart-head");
    head.append(element("h4", panel.title), save);
    box.append(head, plot);
    return { box, draw: () => drawIn(plot, panel) };
  }

  function drawIn(plot, panel) {
    const spec = structuredClone(data.specs[panel.spec]);
    spec.description = panel.description;
    spec.height = panel.height;
    spec.datasets = Object.fromEntries(Object.entries(panel.tables).map(([name, columns]) => [name, rows(name, columns)]));
    for (const param of spec.params) {
      if (param.name in panel.params) param.value = panel.params[param.name];
      if (param.name === "hidden") param.value = [...hidden];
    }
    // The page forbids eval: expressions go through Vega's interpreter.
    const options = { ast: true, renderer: "svg", actions: false, tooltip: hover(spec.usermeta.hover) };
    return vegaEmbed(plot, spec, options).then((result) => result.view);
  }

  const choiceOf = (figure) => figure.querySelector(".chart-choice select")?.selectedIndex ?? 0;
  const panelsOf = (figure) => data.charts[figure.dataset.chart][choiceOf(figure)];

  // Panels with the room for their drawings.
  function place(figure) {
    const panels = panelsOf(figure).map(panelOf);
    figure.querySelector(".chart-panels").replaceChildren(...panels.map((panel) => panel.box));
    return panels;
  }

  function draw(figure) {
    for (const view of drawn.get(figure) ?? []) view.then((shown) => shown.finalize());
    const panels = place(figure);
    drawn.set(figure, panels.map((panel) => panel.draw()));
    figure.querySelectorAll(".chart-caption").forEach((caption, place) => { caption.hidden = place !== choiceOf(figure); });
    const fold = figure.querySelector(".chart-data");
    if (fold.open) fill(fold);
    else fold.querySelector(".chart-tables").replaceChildren();
  }

  // The same numbers as a table for each panel.
  function fill(fold) {
    const tables = panelsOf(fold.closest(".chart")).map((panel) => {
      const [[name, titles]] = Object.entries(data.specs[panel.spec].usermeta.hover);
      const table = element("table");
      table.append(element("caption", panel.title));
      const head = table.createTHead().insertRow();
      head.append(...Object.values(titles).map((title) => Object.assign(element("th", title), { scope: "col" })));
      const body = table.createTBody();
      for (const row of rows(name, panel.tables[name])) {
        const cells = Object.keys(titles).map((column, place) => {
          const cell = element(place ? "td" : "th", number(row[column]), typeof row[column] === "string" ? "" : "page-number");
          if (!place) cell.scope = "row";
          return cell;
        });
        body.insertRow().append(...cells);
      }
      return table;
    });
    fold.querySelector(".chart-tables").replaceChildren(...tables);
  }

  // The hidden methods are in the address, so that a link shows the same charts.
  function remember() {
    const address = new URL(location.href);
    if (hidden.size) address.searchParams.set("hide", [...hidden].join(","));
    else address.searchParams.delete("hide");
    history.replaceState(history.state, "", address);
  }

  function update() {
    hidden.clear();
    for (const box of boxes) if (!box.checked) hidden.add(nameOf(box));
    showAll.hidden = !hidden.size;
    remember();
    for (const views of drawn.values()) {
      for (const view of views) view.then((shown) => shown.signal("hidden", [...hidden]).runAsync());
    }
  }

  for (const sign of document.querySelectorAll(".chart-sign")) drawSign(sign);
  for (const box of boxes) box.addEventListener("change", update);
  showAll.addEventListener("click", () => {
    for (const box of boxes) box.checked = true;
    update();
  });
  for (const figure of figures) {
    place(figure);
    figure.querySelector(".chart-choice select")?.addEventListener("change", () => draw(figure));
    figure.querySelector(".chart-data").addEventListener("toggle", (event) => event.target.open && fill(event.target));
  }
  const asked = new Set(new URL(location.href).searchParams.get("hide")?.split(","));
  for (const box of boxes) box.checked = !asked.has(nameOf(box));
  update();

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      if (!drawn.has(target)) draw(target);
    }
  }, { rootMargin: "600px" });
  for (const figure of figures) observer.observe(figure);
  addEventListener("beforeprint", () => {
    for (const figure of figures) if (!drawn.has(figure)) draw(figure);
  });
})();
