// The reader's own weighting: rank methods by the weighted mean of their places. The page's address keeps the weights,
// such as #weights=single_deletion:2,box_iou:1.
(() => {
  "use strict";
  const KEY = "#weights=";
  const { methods, metrics } = JSON.parse(document.getElementById("board").textContent);
  const form = document.getElementById("board-weights");
  const region = document.getElementById("board-ranked");
  const sentence = document.getElementById("board-weighted");
  let hidden = new Set();

  function weights() {
    const entries = metrics.map(({ name }, place) => [place, Number(form.elements[name].value)]);
    return entries.filter(([, weight]) => weight > 0 && Number.isFinite(weight));
  }

  function ranked(chosen) {
    const total = chosen.reduce((sum, [, weight]) => sum + weight, 0);
    return methods.flatMap((method, row) => {
      const places = chosen.map(([place]) => metrics[place].places[row]);
      if (places.includes(null)) return [];
      const mean = places.reduce((sum, place, number) => sum + place * chosen[number][1], 0) / total;
      return [{ method, mean: Number(mean.toFixed(6)) }];
    }).sort((first, second) => first.mean - second.mean);
  }

  function row({ method, mean }, rank) {
    const made = document.createElement("tr");
    made.className = hidden.has(method.page) ? "tables-out" : "";
    const name = Object.assign(document.createElement("th"), { scope: "row" });
    name.append(Object.assign(document.createElement("a"), { href: method.page, textContent: method.title }));
    made.append(name, ...[rank, mean.toFixed(2)].map(
      (text) => Object.assign(document.createElement("td"), { className: "page-number", textContent: text })));
    return made;
  }

  function update() {
    const chosen = weights();
    const order = chosen.length ? ranked(chosen) : [];
    const rankOf = (entry) => 1 + order.findIndex(({ mean }) => mean === entry.mean);
    region.hidden = !order.length;
    region.querySelector("tbody").replaceChildren(...order.map((entry) => row(entry, rankOf(entry))));
    const placed = new Set(order.map(({ method }) => method));
    const left = methods.filter((method) => !placed.has(method)).map((method) => method.title);
    const missing = left.length ? ` Without a place by each of them on every network, so not ranked: ${left.join("; ")}.` : "";
    const named = chosen.map(([place, weight]) => `${metrics[place].title} ${weight}`).join("; ");
    sentence.textContent = chosen.length ? `Your weighting, not the leaderboard's: ${named}.${missing}`
      : "Nothing is ranked: all weights are 0.";
    return chosen;
  }

  function write() {
    const words = update().map(([place, weight]) => `${encodeURIComponent(metrics[place].name)}:${weight}`);
    history.replaceState(null, "", words.length ? `${KEY}${words.join(",")}` : "#weights");
  }

  function read() {
    if (!location.hash.startsWith(KEY)) return;
    const pairs = location.hash.slice(KEY.length).split(",").map((word) => word.split(":"));
    const given = new Map(pairs.map(([name, weight]) => [name, Number(weight)]));
    for (const { name } of metrics) {
      const weight = given.get(encodeURIComponent(name));
      form.elements[name].value = weight > 0 && Number.isFinite(weight) ? String(weight) : "0";
    }
    document.getElementById("weights").scrollIntoView();
  }

  form.addEventListener("input", write);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(write)); // the fields have their values after the event
  document.addEventListener("boardfilter", (event) => {
    hidden = event.detail;
    update();
  });
  addEventListener("hashchange", () => {
    read();
    update();
  });
  read();
  update();
})();
