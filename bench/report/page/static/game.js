// The game "What do you see?": the order of the pictures, the answers, and their file.
(() => {
  "use strict";
  const game = JSON.parse(document.getElementById("game-data").textContent);
  const CANT_TELL = { index: -1, name: "can't tell" };
  const FLASH = 140; // milliseconds for which the chosen answer is highlighted
  const TOO_FAST = 150; // milliseconds: a faster answer is a key pressed twice
  const $ = (id) => document.getElementById(id);

  let state = null; // {player, answers, saved}

  // --- The plan of a player: each image once, in one cell of the Latin square, and whole pictures in between.
  function random(seed) { // mulberry32
    let value = seed >>> 0;
    return () => {
      value = (value + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(value ^ (value >>> 15), value | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffled(entries, next) {
    const order = [...entries];
    for (let last = order.length - 1; last > 0; last -= 1) {
      const other = Math.floor(next() * (last + 1));
      [order[last], order[other]] = [order[other], order[last]];
    }
    return order;
  }

  function planOf(player) {
    const next = random(Math.imul(game.seed + 1, 0x9e3779b1) ^ Math.imul(player + 1, 0x85ebca6b));
    const row = game.square[player % game.square.length];
    const parts = game.images.map((image, place) => {
      const cell = row[place];
      const { name, title } = game.methods[cell % game.methods.length];
      return {
        kind: "part", image: image.image, picture: image.pictures[cell], method: name, title,
        shown: image.classes[Math.floor(cell / game.methods.length)], choices: shuffled(image.classes, next),
      };
    });
    const checks = game.checks.map((check) => ({
      kind: "check", image: check.image, picture: check.picture, method: "", title: "", shown: check.classes[0],
      choices: shuffled(check.classes, next),
    }));
    const plan = shuffled(parts, next);
    shuffled(checks, next).forEach((check, number) => {
      plan.splice(Math.round(((number + 0.5) * parts.length) / checks.length) + number, 0, check);
    });
    return plan;
  }

  // --- Screens
  let plan = [];
  let shownAt = null; // the time when the picture was painted; null if no answer is expected

  function show(name) {
    for (const screen of ["start", "trial", "end"]) $(`game-${screen}`).hidden = screen !== name;
  }

  function start() {
    const given = /[#&?]player=(\d{1,6})\b/.exec(location.hash + location.search);
    $("game-count").textContent = String(game.images.length + game.checks.length);
    $("game-player").value = given ? given[1] : String(Math.floor(Math.random() * 1e6));
    show("start");
    $("game-player").focus();
  }

  async function next() {
    const place = state.answers.length;
    if (place >= plan.length) {
      end();
      return;
    }
    const trial = plan[place];
    const image = $("game-image");
    image.classList.add("game-hidden");
    image.src = trial.picture;
    image.alt = trial.kind === "check" ? "A whole picture" : "A part of a picture; the rest is hidden";
    $("game-progress").max = plan.length;
    $("game-progress").value = place;
    $("game-place").textContent = `${place + 1} of ${plan.length}`;
    [...trial.choices, null].forEach((choice, number) => {
      const button = document.querySelector(`[data-choice="${number}"]`);
      button.classList.remove("game-chosen");
      if (choice) button.querySelector("span").textContent = choice.name;
    });
    show("trial");
    $("game-question").focus({ preventScroll: true });
    await image.decode();
    requestAnimationFrame(() => {
      image.classList.remove("game-hidden");
      shownAt = performance.now();
    });
  }

  function answer(number) {
    const milliseconds = shownAt === null ? 0 : Math.round(performance.now() - shownAt);
    if (shownAt === null || milliseconds < TOO_FAST) return;
    shownAt = null;
    const trial = plan[state.answers.length];
    const choice = trial.choices[number] ?? CANT_TELL;
    state.answers.push({
      trial: state.answers.length + 1, kind: trial.kind, image: trial.image, method: trial.method,
      title: trial.title, class_index: trial.shown.index, class: trial.shown.name, answer_index: choice.index,
      answer: choice.name, correct: choice.index === trial.shown.index ? 1 : 0, milliseconds,
    });
    document.querySelector(`[data-choice="${number}"]`).classList.add("game-chosen");
    setTimeout(next, FLASH);
  }

  function end() {
    const parts = state.answers.filter((entry) => entry.kind === "part");
    $("game-score").textContent = String(parts.filter((entry) => entry.correct).length);
    $("game-of").textContent = String(parts.length);
    $("game-saved").textContent = "";
    show("end");
    $("game-thanks").focus();
  }

  function startAnew() {
    if (!state.saved && !confirm("The answers of this player aren't saved. Discard them?")) return;
    state = null;
    start();
  }

  // --- The file
  function answersFile() {
    const { id, setting, share, checks_needed } = game;
    const shared = { game: id, ...setting, share: String(share), checks_needed, player: state.player };
    return JSON.stringify({ format: 1, ...shared, answers: state.answers }, null, 1);
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([answersFile()], { type: "application/json;charset=utf-8" }));
    link.download = `game-${game.id}-player-${state.player}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    state.saved = true;
    $("game-saved").textContent = `Saved as ${link.download}.`;
  }

  // --- Events
  $("game-form").addEventListener("submit", (event) => {
    event.preventDefault();
    state = { player: Number($("game-player").value), answers: [], saved: false };
    plan = planOf(state.player);
    next();
  });
  $("game-again").addEventListener("click", startAnew);
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => answer(Number(button.dataset.choice)));
  }
  $("game-save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if ($("game-trial").hidden || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    const number = ["1", "2", "3"].indexOf(event.key);
    if (number >= 0) answer(number);
  });
  addEventListener("beforeunload", (event) => {
    if (state && !state.saved && state.answers.length) event.preventDefault();
  });

  const { model, layer, data } = game.setting;
  $("game-footer").textContent = `Game ${game.id}: ${model} at ${layer} on ${data}`;
  start();
})();
