// The theme switch, the current section in the index, and folded parts with data-print, which open for printing.
(() => {
  "use strict";
  const root = document.documentElement;

  function announceTheme() {
    document.dispatchEvent(new CustomEvent("themechange"));
  }

  function choose(theme) {
    root.dataset.theme = theme;
    try {
      localStorage.setItem("axiom-bench-theme", theme);
    } catch {
      // Storage is forbidden here: the choice lasts as long as the page.
    }
    announceTheme();
  }

  for (const input of document.querySelectorAll('.page-theme input')) {
    input.checked = input.value === root.dataset.theme;
    input.addEventListener("change", () => choose(input.value));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", announceTheme);

  // The last section whose heading has passed the upper third of the window is the one being read.
  const links = new Map([...document.querySelectorAll(".page-bar nav a")].map((link) => [link.hash.slice(1), link]));
  const sections = [...document.querySelectorAll(".page-section")];
  function mark() {
    const passed = sections.filter((section) => section.getBoundingClientRect().top < innerHeight / 3);
    const current = passed.length ? passed[passed.length - 1].id : null;
    for (const [id, link] of links) {
      if (id === current) {
        if (!link.hasAttribute("aria-current")) {
          link.setAttribute("aria-current", "true");
          const list = link.closest("ul");
          list.scrollTo({ left: link.offsetLeft - list.offsetLeft - 40 });
        }
      } else {
        link.removeAttribute("aria-current");
      }
    }
  }
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      mark();
    });
  }, { passive: true });
  new ResizeObserver(mark).observe(document.body); // the page grows when a reader scrolls to charts, which are drawn late

  // A link to something inside a folded part opens it.
  function fragment() {
    try {
      return decodeURIComponent(location.hash.slice(1));
    } catch {
      return ""; // the address is malformed
    }
  }
  function reveal() {
    const target = document.getElementById(fragment());
    target?.querySelector(":scope > .page-fold")?.setAttribute("open", "");
    for (let part = target?.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    if (target) target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();

  // The event "pagecopy" with {text, message} copies the text and shows the message. A button with data-copy, the id of
  // an element, copies the text of that element.
  const status = document.querySelector(".page-status");
  async function copy(text, message, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      copyBySelection(text); // the browser refuses the clipboard's interface, such as an older one on file://
    }
    status.textContent = message;
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1200);
  }
  function copyBySelection(text) {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  document.addEventListener("pagecopy", (event) => copy(event.detail.text, event.detail.message, event.target));
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", () => {
      copy(document.getElementById(button.dataset.copy).textContent, "Copied", button);
    });
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details[data-print]:not([open])")];
    for (const part of opened) part.open = true;
    for (const image of document.querySelectorAll('img[loading="lazy"]')) image.loading = "eager";
  });
  addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
    opened = [];
  });
})();
