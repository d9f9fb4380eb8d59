// Panels of which a reader sees one at a time: <div class="page-panels" data-choice="Network"> with
// <div class="page-panel" data-label="..."> in it. Without this script, and in print, all of them are shown.
(() => {
  "use strict";
  const FEW = 4; // up to this many choices are buttons next to each other
  const showers = new Map(); // {panels: the function that shows one of them}

  function radios(labels, name, legend, choose) {
    const group = document.createElement("fieldset");
    group.className = "page-choice";
    const title = document.createElement("legend");
    title.textContent = legend;
    group.append(title);
    labels.forEach((text, place) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name, value: String(place), checked: place === 0 });
      input.addEventListener("change", () => choose(place));
      const span = document.createElement("span");
      span.textContent = text;
      label.append(input, span);
      group.append(label);
    });
    return group;
  }

  function list(labels, legend, choose) {
    const select = document.createElement("select");
    select.setAttribute("aria-label", legend);
    labels.forEach((text, place) => select.add(new Option(text, String(place))));
    select.addEventListener("change", () => choose(Number(select.value)));
    return select;
  }

  document.querySelectorAll(".page-panels").forEach((panels, number) => {
    const each = [...panels.querySelectorAll(":scope > .page-panel")];
    if (each.length < 2) return;
    const choose = (chosen) => each.forEach((panel, place) => { panel.hidden = place !== chosen; });
    const labels = each.map((panel) => panel.dataset.label);
    const legend = panels.dataset.choice;
    const control = each.length > FEW
      ? list(labels, legend, choose) : radios(labels, `panels-${number}`, legend, choose);
    (panels.parentElement.querySelector(":scope > .page-tools") ?? panels).prepend(control);
    choose(0);
    showers.set(panels, (panel) => {
      const place = String(each.indexOf(panel));
      const option = control.matches("select") ? control : control.querySelector(`input[value="${place}"]`);
      if (option === control) control.value = place; else option.checked = true;
      choose(Number(place));
    });
  });

  // A link to an element in a panel, such as a figure, shows that panel.
  function reveal() {
    const target = location.hash ? document.querySelector(":target") : null;
    const panel = target?.closest(".page-panel[hidden]");
    if (!panel) return;
    showers.get(panel.parentElement)(panel);
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
})();
