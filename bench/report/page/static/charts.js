// The switch of methods: it acts on all charts, and is in the address, so that a link shows the same. And "Save SVG",
// and on a narrow screen the size of drawings.
(() => {
  "use strict";
  const boxes = [...document.querySelectorAll(".chart-methods input")];
  const showAll = document.querySelector(".chart-all");
  const marks = [...document.querySelectorAll(".chart [data-method]")];

  function update() {
    const hidden = boxes.filter((box) => !box.checked);
    const places = new Set(hidden.map((box) => box.dataset.place));
    for (const mark of marks) {
      const isHidden = mark.dataset.method.split(" ").every((place) => places.has(place));
      mark.classList.toggle("chart-hidden", isHidden);
    }
    showAll.hidden = !hidden.length;
    const address = new URL(location.href);
    if (hidden.length) address.searchParams.set("hide", hidden.map((box) => box.value).join(","));
    else address.searchParams.delete("hide");
    history.replaceState(history.state, "", address);
  }

  if (showAll) {
    const asked = new Set(new URL(location.href).searchParams.get("hide")?.split(","));
    for (const box of boxes) {
      box.checked = !asked.has(box.value);
      box.addEventListener("change", update);
    }
    showAll.addEventListener("click", () => {
      for (const box of boxes) box.checked = true;
      update();
    });
    update();
  }

  // On a narrow screen a drawing is as wide as the screen, or as large as elsewhere in a box that scrolls.
  for (const plot of document.querySelectorAll(".chart-plot")) {
    plot.addEventListener("click", () => plot.classList.toggle("chart-large"));
    plot.addEventListener("keydown", (event) => { if (event.key === "Enter") plot.classList.toggle("chart-large"); });
  }

  // A file of its own: with the colours of the theme in place of the page's custom properties.
  for (const button of document.querySelectorAll(".chart-save")) {
    button.addEventListener("click", () => {
      const colours = getComputedStyle(document.documentElement);
      const svg = button.closest("figure").querySelector("svg").cloneNode(true);
      for (const mark of svg.querySelectorAll(".chart-hidden")) mark.remove();
      const text = new XMLSerializer().serializeToString(svg)
        .replace(/var\((--[\w-]+)\)/g, (_, name) => colours.getPropertyValue(name).trim());
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
      link.download = `${button.dataset.name}.svg`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
})();
