// Apply the theme that the reader chose before anything is drawn. "auto" follows the system.
(() => {
  "use strict";
  let stored = null;
  try {
    stored = localStorage.getItem("axiom-bench-theme");
  } catch {
    // Storage is forbidden here: the choice lasts as long as the page.
  }
  const root = document.documentElement;
  root.dataset.theme = ["light", "dark"].includes(stored) ? stored : "auto";
  root.classList.add("page-js");
})();
