// Show a definition next to the word that it defines: on hover, on focus, and on tap (instead of following the link).
(() => {
  "use strict";
  const LEAVING = 200; // milliseconds that the pointer has to move from the word to its definition
  const TERMS = "a.page-term, [data-term]";
  const tip = document.createElement("div");
  tip.className = "definitions-tip";
  tip.id = "definitions-tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  let shown = null;
  let timer = 0;

  function entryOf(term) {
    return document.getElementById(decodeURIComponent((term.dataset.term ?? term.hash).slice(1)));
  }

  function show(term) {
    clearTimeout(timer);
    if (term === shown) return;
    const entry = entryOf(term);
    hide();
    if (!entry?.querySelector("dd")) return; // the manifest has no definition of it
    const list = document.createElement("dl");
    const copy = entry.cloneNode(true);
    copy.removeAttribute("id");
    list.append(copy);
    tip.replaceChildren(list);
    tip.hidden = false;
    place(term);
    term.setAttribute("aria-describedby", tip.id);
    shown = term;
  }

  function place(term) {
    const box = term.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = tip;
    const left = Math.min(box.left, innerWidth - width - 12);
    const below = box.bottom + 6 + height < innerHeight || box.top < height + 6;
    tip.style.left = `${Math.max(12, left)}px`;
    tip.style.top = `${below ? box.bottom + 6 : box.top - height - 6}px`;
  }

  function hide() {
    clearTimeout(timer);
    shown?.removeAttribute("aria-describedby");
    shown = null;
    tip.hidden = true;
  }

  function hideSoon() {
    clearTimeout(timer);
    timer = setTimeout(hide, LEAVING);
  }

  const termOf = (event) => (event.target instanceof Element ? event.target.closest(TERMS) : null);
  document.addEventListener("pointerover", (event) => {
    const term = termOf(event);
    if (term && event.pointerType === "mouse") show(term);
    else if (tip.contains(event.target)) clearTimeout(timer);
    else if (shown && event.pointerType === "mouse" && shown !== document.activeElement) hideSoon();
  });
  document.addEventListener("focusin", (event) => {
    const term = termOf(event);
    if (term?.matches(":focus-visible")) show(term);
    else if (!tip.contains(event.target)) hide();
  });
  document.addEventListener("click", (event) => {
    const term = termOf(event);
    if (term && event.pointerType === "touch") {
      if (term.matches("a")) event.preventDefault();
      show(term);
    } else if (!tip.contains(event.target)) {
      hide();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  addEventListener("scroll", () => shown && place(shown), { passive: true });
})();
