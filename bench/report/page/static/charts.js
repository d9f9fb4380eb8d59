// Handle the button "Save SVG", and fit drawings to a narrow screen.
(() => {
  "use strict";

  // On a narrow screen, a drawing has its full size in a box that scrolls. A tap shows the whole drawing.
  for (const plot of document.querySelectorAll(".chart-plot")) {
    plot.addEventListener("click", () => plot.classList.toggle("chart-whole"));
    plot.addEventListener("keydown", (event) => { if (event.key === "Enter") plot.classList.toggle("chart-whole"); });
  }

  // The saved file has the colours of the theme in place of the page's custom properties.
  for (const button of document.querySelectorAll(".chart-save")) {
    button.addEventListener("click", () => {
      const colours = getComputedStyle(document.documentElement);
      const svg = button.closest("figure").querySelector("svg").cloneNode(true);
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
