// The gallery: a list of images with every method's map, which can be sorted and filtered, and one image in a dialog.
(() => {
  "use strict";
  const FIRST = 4; // entries that are listed at first, and printed
  const MORE = 8; // entries that "Show more" adds
  const FEW = 3; // values under a map of the list; the dialog shows all values
  const root = document.getElementById("gallery");
  const { metrics, methods, settings, has_labels: hasLabels, images } = JSON.parse(document.getElementById("gallery-data").textContent);
  const list = root.querySelector(".gallery-list");
  const status = root.querySelector(".gallery-count");
  const more = root.querySelector(".gallery-more");
  const dialog = root.querySelector("dialog");
  const ARROWS = { lower: "↓", higher: "↑" };

  function element(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  }

  // Texts

  // 0.00 and 1.00 are exact, never a rounded probability. null: the output has no probability.
  function probability(value, before) {
    if (value === null) return "";
    const rounded = value > 0.99 && value < 1 ? ">0.99" : value < 0.01 && value > 0 ? "<0.01" : value.toFixed(2);
    return ` (${before}${rounded})`;
  }

  // Typeset a number like html.typeset: with a true minus, and powers of ten.
  function typeset(text) {
    const raised = (digits) => [...digits].map((sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]).join("");
    return text.replace("<1e-6", "<10⁻⁶").replace(/(\d)e(-?\d+)/, (_, digit, power) => `${digit}×10${raised(power)}`)
      .replace(/^-/, "−");
  }

  function explainsWord(image) {
    return settings[image.setting].noun === "word";
  }

  function explained(image) {
    return `${explainsWord(image) ? "word" : "class"} ${image.target[1]}`;
  }

  function title(image) {
    const several = settings.length > 1 ? `${settings[image.setting].label}: ` : "";
    return `${several}${image.id}, ${explained(image)}`;
  }

  // Return how the prediction relates to the explained class.
  function prediction(image) {
    if (image.target[0] === image.predicted[0]) return ["It is the predicted class. "];
    const wrong = hasLabels && image.wrong ? "gallery-wrong" : "";
    const other = hasLabels && !image.wrong ? ", another object of the image" : "";
    return [
      element("span", wrong, "Predicted: ", element("b", "", image.predicted[1])),
      `${probability(image.predicted[2], "")}${other}. `,
    ];
  }

  function facts(image) {
    const line = element("p", "gallery-facts");
    line.append("Explained: ", element("b", "", image.target[1]), `${probability(image.target[2], "probability ")}. `);
    if (!explainsWord(image)) line.append(...prediction(image));
    if (image.disagreement !== null) line.append(`Disagreement of the methods: ${image.disagreement.toFixed(2)}.`);
    return line;
  }

  // Return the ranks of the methods that have a value on this image; null if a rank tells nothing.
  function ranksOf(image, metric) {
    const ranks = Object.values(image.values[metric]).map((cell) => cell[2]).filter((rank) => rank !== null);
    return settings[image.setting].ranks && ranks.some((rank) => rank > 1) ? ranks.length : null;
  }

  function describe(image, method) {
    const values = metrics.flatMap((metric, place) => {
      const cell = image.values[place][method];
      if (!cell) return [];
      const of = ranksOf(image, place);
      const rank = of && cell[2] !== null ? ` (rank ${cell[2]} of ${of})` : "";
      return [`${metric.title.toLowerCase()} ${typeset(cell[1])}${rank}`];
    });
    return `${methods[method].title} on image ${image.id}, ${explained(image)}: ${values.join(", ")}`;
  }

  // Pictures

  function picture(className, address, alt) {
    const node = element("img", className);
    node.src = address;
    node.alt = alt;
    node.decoding = "async";
    node.draggable = false;
    return node;
  }

  function boxes(image) {
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    drawing.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
    drawing.setAttribute("aria-hidden", "true");
    for (const [x0, y0, x1, y1] of image.boxes) {
      for (const part of ["gallery-halo", "gallery-line"]) {
        const box = document.createElementNS(space, "rect");
        box.setAttribute("class", part);
        for (const [name, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 })) {
          box.setAttribute(name, value);
        }
        drawing.append(box);
      }
    }
    const layer = element("span", "gallery-boxes", drawing);
    if (image.outline) layer.append(picture("", image.outline, ""));
    return layer;
  }

  // address: the map's address; undefined: show only the picture.
  function frame(image, address, alt) {
    const node = element("span", "gallery-frame");
    node.style.setProperty("--gallery-ratio", `${image.width} / ${image.height}`);
    node.append(picture("gallery-picture", image.picture, address ? "" : alt));
    if (address) node.append(picture("gallery-map", address, alt));
    node.append(boxes(image));
    return node;
  }

  // Cards

  // A value, or a dash whose title is the status, for the pointer and for screen readers.
  function valueOf(cell, isLarge) {
    if (cell[0] !== null) return element("dd", "", typeset(cell[1]));
    const node = element("dd", "gallery-no-value", isLarge ? cell[1] : "–");
    node.title = cell[1];
    return node;
  }

  // The indices of the metrics that the list shows: the one that sorts it, then those of the headline.
  function fewMetrics() {
    const sorted = sortedBy();
    return [...new Set([...(sorted === null ? [] : [sorted]), ...metrics.keys()])].slice(0, FEW);
  }

  function valuesOf(image, method, isLarge) {
    const node = element("dl", "gallery-values");
    for (const place of isLarge ? metrics.keys() : fewMetrics()) {
      const cell = image.values[place][method];
      if (!cell) continue;
      const of = ranksOf(image, place);
      const value = valueOf(cell, isLarge);
      if (of && cell[2] !== null) {
        if (isLarge) value.append(element("span", "gallery-rank", ` (${cell[2]})`));
        if (cell[2] === 1) value.classList.add("gallery-best");
      }
      const { title: name, better } = metrics[place];
      const label = element("dt", "", `${ARROWS[better]}\u00a0${name}`);
      label.title = name; // the list has room only for the beginning of the name
      node.append(element("div", "", label, value));
    }
    return node;
  }

  function card(image, [method, map], isLarge) {
    const same = typeof map === "number" ? methods[map].title : null;
    const address = same ? image.maps.find(([other]) => other === map)[1] : map;
    const name = element("b", "", methods[method].title);
    name.style.setProperty("--gallery-method", methods[method].colour);
    const caption = element("figcaption", "", name);
    if (same) caption.append(element("span", "gallery-same", `same map as ${same}`));
    const isZero = image.zero.includes(method);
    if (isZero && address) caption.append(element("span", "gallery-zero", "zero everywhere"));
    caption.append(valuesOf(image, method, isLarge));
    if (isLarge && methods[method].note) caption.append(element("p", "gallery-note", methods[method].note));
    const drawn = address
      ? frame(image, address, describe(image, method))
      : element("span", "gallery-frame gallery-no-map", isZero ? "The map is zero everywhere." : "The map isn't finite.");
    return element("figure", "gallery-card", drawn, caption);
  }

  function cards(image, isLarge) {
    const caption = element("figcaption", "", element("b", "", "Image"), `${image.width} × ${image.height} pixels`,
      topClasses(image), withoutMap(image));
    const own = element("figure", "gallery-card gallery-own", frame(image, undefined, `Image ${image.id}`), caption);
    const maps = image.maps.filter(([method]) => !hidden.has(method)).map((map) => card(image, map, isLarge));
    return [own, ...maps];
  }

  function topClasses(image) {
    if (!image.top.length) return "";
    return element("ol", "gallery-top", ...image.top.map(([name, text]) =>
      element("li", "", element("span", "", name), element("span", "", text))));
  }

  function withoutMap(image) {
    const present = new Set(image.maps.map(([method]) => method));
    const absent = methods.flatMap((method, place) => {
      const cells = image.values.flatMap((values) => values[place] ? [values[place]] : []);
      if (present.has(place) || !cells.length) return [];
      // Records of several runs may have values of a method whose maps none of them stored.
      return [`${method.title} (${cells.some((cell) => cell[0] !== null) ? "none is stored" : cells[0][1]})`];
    });
    return absent.length ? element("p", "gallery-absent", `Without a map: ${absent.join(", ")}.`) : "";
  }

  // The list

  const link = (image) => `#gallery/${image.key.map(encodeURIComponent).join("/")}`;
  const articles = new Map(); // {entry: its article} of the listed entries
  const hidden = new Set(); // the methods whose maps a reader has switched off
  let ordered = []; // the images that pass the filters, in order

  // A picture at least twice as wide as high, such as a signal, has wider cards.
  const gridClass = (image) => (image.width >= 2 * image.height ? "gallery-grid gallery-wide" : "gallery-grid");

  function article(image) {
    const heading = element("a", "", title(image));
    heading.href = link(image);
    const node = element("article", "gallery-image", element("h3", "", heading), facts(image));
    const grid = element("div", gridClass(image), ...cards(image, false));
    grid.addEventListener("click", () => open(image));
    node.append(grid);
    return node;
  }

  function extend(count) {
    for (const image of ordered.slice(articles.size, articles.size + count)) {
      articles.set(image, article(image));
      list.append(articles.get(image));
    }
    const left = ordered.length - articles.size;
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(MORE, left)} more`;
    const filtered = ordered.length < images.length ? `; ${images.length} in all` : "";
    status.textContent =
      `${articles.size} of ${ordered.length} shown, one for each image, explained class and network${filtered}.`;
  }

  more.addEventListener("click", () => {
    const next = ordered[articles.size];
    extend(MORE);
    articles.get(next).querySelector("a").focus({ preventScroll: true }); // this entry is now where the button was
  });

  // Controls

  const control = (name) => root.querySelector(`.gallery-controls [name=${name}]`);

  function choices(select, options) {
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  }

  const classes = [...new Map(images.map((image) => [image.target[0], image.target[1]]))];
  choices(control("setting"), [["", "all"], ...settings.map((setting, place) => [place, setting.label])]);
  choices(control("class"), [["", "all"], ...classes.sort((a, b) => a[1].localeCompare(b[1], "en", { numeric: true }))]);
  choices(control("method"), [["", "all methods (median)"], ...methods.map((method, place) => [place, method.title])]);
  choices(control("sort"), [
    ["order", "given order"],
    ["disagreement", "disagreement of the methods"],
    ...(hasLabels ? [["wrong", "wrong class first"]] : []),
    ...metrics.flatMap((metric, place) => [
      [`${place} high`, `${metric.title}, highest first`], [`${place} low`, `${metric.title}, lowest first`],
    ]),
  ]);
  if (settings.length > 1) control("setting").value = "0";
  root.querySelector(".gallery-only-many").hidden = settings.length < 2;
  const hasBoxes = images.some((image) => image.boxes.length || image.outline);
  for (const node of root.querySelectorAll(".gallery-check:has([name=boxes])")) node.hidden = !hasBoxes;

  methods.forEach((method, place) => {
    const box = element("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(place);
      else hidden.add(place);
      arrange(Math.max(FIRST, articles.size));
    });
    root.querySelector(".gallery-methods div").append(element("label", "", box, method.title));
  });

  function median(values) {
    const sorted = values.sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  // Return the index of the metric that sorts the list, or null.
  function sortedBy() {
    const [what, direction] = control("sort").value.split(" ");
    return direction ? Number(what) : null;
  }

  // Return the number that sorts an image, largest first; images with null come last.
  function keyOf(image) {
    const [what, direction] = control("sort").value.split(" ");
    if (what === "order") return 0;
    if (what === "disagreement") return image.disagreement;
    if (what === "wrong") return (image.wrong ? 2 : 1) - (image.target[2] ?? 1);
    const chosen = control("method").value;
    const cells = chosen ? [image.values[what][chosen]] : Object.values(image.values[what]);
    const values = cells.flatMap((cell) => (cell && cell[0] !== null ? [cell[0]] : []));
    if (!values.length) return null;
    return direction === "high" ? median(values) : -median(values);
  }

  function arrange(count) {
    const setting = control("setting").value;
    const part = control("image").value.trim().toLowerCase();
    const target = control("class").value;
    control("method").disabled = sortedBy() === null;
    const keyed = images
      .filter((image) => image.id.toLowerCase().includes(part))
      .filter((image) => (!setting || image.setting === Number(setting)) && (!target || image.target[0] === Number(target)))
      .map((image) => ({ image, key: keyOf(image) }));
    keyed.sort((a, b) => (b.key ?? -Infinity) - (a.key ?? -Infinity) || 0); // two images without a value give NaN, a tie
    ordered = keyed.map(({ image }) => image);
    list.replaceChildren();
    articles.clear();
    extend(count);
  }

  const look = { colours: root.querySelector("[name=colours]").value, opacity: 60, boxes: true, grey: true };

  function draw() {
    for (const input of root.querySelectorAll(".gallery-look [name]")) {
      if (input.type === "checkbox") input.checked = look[input.name];
      else input.value = look[input.name];
    }
    for (const output of root.querySelectorAll(".gallery-look output")) output.textContent = `${look.opacity} %`;
    for (const option of root.querySelector("[name=colours]").options) {
      root.classList.toggle(`gallery-${option.value}`, option.value === look.colours);
    }
    root.classList.toggle("gallery-without-boxes", !look.boxes);
    root.classList.toggle("gallery-with-grey", look.grey);
    root.style.setProperty("--gallery-opacity", look.opacity / 100);
    root.querySelector(".gallery-warning").hidden = look.colours !== "jet";
  }

  for (const select of root.querySelectorAll(".gallery-controls select")) select.addEventListener("change", () => arrange(FIRST));
  control("image").addEventListener("input", () => arrange(FIRST));
  for (const input of root.querySelectorAll(".gallery-look [name]")) {
    input.addEventListener("input", () => {
      look[input.name] = input.type === "checkbox" ? input.checked : input.value;
      draw();
    });
  }

  // One image large

  let shown = null;

  function open(image) {
    shown = image;
    root.querySelector("#gallery-dialog-title").textContent = title(image);
    root.querySelector(".gallery-large").replaceChildren(
      facts(image), element("div", gridClass(image), ...cards(image, true)));
    root.querySelector(".gallery-copied").textContent = "";
    const place = ordered.indexOf(image);
    root.querySelector(".gallery-previous").disabled = place <= 0;
    root.querySelector(".gallery-next").disabled = place === ordered.length - 1;
    history.replaceState(null, "", link(image));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    root.querySelector("#gallery-dialog-title").focus();
  }

  function step(by) {
    const image = ordered[ordered.indexOf(shown) + by];
    if (image) open(image);
  }

  root.querySelector(".gallery-previous").addEventListener("click", () => step(-1));
  root.querySelector(".gallery-next").addEventListener("click", () => step(1));
  root.querySelector(".gallery-close").addEventListener("click", () => dialog.close());
  root.querySelector(".gallery-copy").addEventListener("click", async () => {
    const copied = root.querySelector(".gallery-copied");
    try {
      await navigator.clipboard.writeText(location.href);
      copied.textContent = "The link is copied.";
    } catch {
      copied.textContent = "This browser forbids copying: copy the link from its address bar.";
    }
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // a click outside of the content closes the dialog
  });
  dialog.addEventListener("close", () => {
    history.replaceState(null, "", "#gallery");
    const node = articles.get(shown)?.querySelector("a") ?? more; // an entry that isn't listed yet is added by the button
    (node.closest("article") ?? node).scrollIntoView({ block: "nearest" });
    node.focus({ preventScroll: true });
  });

  // Links to an image: #gallery/<network>/<image>[/<class>]

  function follow() {
    if (!location.hash.startsWith("#gallery/")) return;
    const image = images.find((other) => link(other) === location.hash);
    if (!image) {
      status.textContent = `The link ${location.hash} names no image of this gallery.`;
      root.scrollIntoView();
      return;
    }
    if (!ordered.includes(image)) {
      control("class").value = "";
      control("image").value = "";
      control("setting").value = String(image.setting);
      arrange(FIRST);
    }
    (articles.get(image) ?? root).scrollIntoView();
    open(image);
  }

  draw();
  arrange(FIRST);
  addEventListener("hashchange", follow);
  follow();
})();
