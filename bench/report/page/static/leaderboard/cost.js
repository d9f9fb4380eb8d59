// The chart of passes per image against a metric's value, on the network that a reader chooses, with the Pareto front
// in words and a table of all points.
(() => {
  "use strict";
  const LEAST = 340; // pixels: the minimum height
  const LINE = 13; // pixels: the height of a name
  const LETTER = 5.9;
  const MARGIN = { top: 26, right: 16, bottom: 40, left: 56 }; // the names of the first column are to the left of its points
  const LOG_SPREAD = 30; // if the largest value is more than this times the smallest, a linear scale hides most points
  const { methods, metrics, networks } = JSON.parse(document.getElementById("board").textContent);
  const [metricList, networkList] = document.querySelectorAll("#board-axes select");
  const chart = document.getElementById("board-chart");
  const PAD = 10; // pixels between the frame and the first and the last point
  const text = (value) => String(Number(value.toPrecision(3)));
  let hidden = new Set();

  function element(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // Return the points of a metric and network. isFront: no other point is as good and cheaper, or better and as cheap.
  function points(metric, network) {
    const sign = metric.better === "lower" ? 1 : -1;
    const all = methods.flatMap((method, place) => {
      const value = metric.values[place][network];
      return method.passes === null || value === null || hidden.has(method.page) ? [] : [{ method, x: method.passes, y: value }];
    });
    const beats = (a, b) => a.x <= b.x && sign * a.y <= sign * b.y && (a.x < b.x || a.y !== b.y);
    for (const point of all) point.isFront = !all.some((other) => beats(other, point));
    return all.sort((a, b) => a.x - b.x || sign * (a.y - b.y));
  }

  // Return {at: the function from a value to its share of the axis, ticks}.
  function axis(values, isLog) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    if (isLog) {
      const first = Math.floor(Math.log10(low));
      const last = Math.max(first + 1, Math.ceil(Math.log10(high)));
      const powers = Array.from({ length: last - first + 1 }, (unused, place) => 10 ** (first + place));
      return { at: (value) => (Math.log10(value) - first) / (last - first), ticks: powers };
    }
    const spread = high - low || Math.abs(high) || 1;
    const power = 10 ** Math.floor(Math.log10(spread / 4));
    const step = power * [1, 2, 5, 10].find((factor) => spread / (power * factor) <= 5);
    const [first, last] = [Math.floor(low / step), Math.max(Math.floor(low / step) + 1, Math.ceil(high / step))];
    const ticks = Array.from({ length: last - first + 1 }, (unused, place) => (first + place) * step);
    return { at: (value) => (value / step - first) / (last - first), ticks };
  }

  function draw(all, metric) {
    const width = Math.max(260, chart.clientWidth);
    const first = all.filter((point) => point.x === all[0].x);
    const HEIGHT = Math.max(LEAST, MARGIN.top + MARGIN.bottom + LINE * first.length);
    const names = 24 + LETTER * Math.max(...first.map((point) => point.method.title.length));
    const values = all.map((point) => point.y);
    const isLog = metric.lead === "median" && Math.min(...values) > 0 && Math.max(...values) > LOG_SPREAD * Math.min(...values);
    const [across, up] = [axis(methods.map((method) => method.passes).filter(Boolean), true), axis(values, isLog)];
    const x = (value) => MARGIN.left + names + across.at(value) * (width - MARGIN.left - MARGIN.right - names - PAD);
    const y = (value) => HEIGHT - MARGIN.bottom - up.at(value) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    const end = width - MARGIN.right;
    const grid = [
      ...across.ticks.map((tick) => [x(tick), MARGIN.top, x(tick), HEIGHT - MARGIN.bottom]),
      ...up.ticks.map((tick) => [MARGIN.left, y(tick), end, y(tick)]),
    ].map(([x1, y1, x2, y2]) => element("line", { class: "board-grid", x1, y1, x2, y2 }));
    const labels = [
      ...across.ticks.map((tick) => element("text", { x: x(tick), y: HEIGHT - MARGIN.bottom + 16, "text-anchor": "middle" }, text(tick))),
      ...up.ticks.map((tick) => element("text", { x: MARGIN.left - 7, y: y(tick) + 4, "text-anchor": "end" }, text(tick))),
      element("text", { class: "board-title", x: end, y: HEIGHT - 6, "text-anchor": "end" }, "passes for an image"),
      element("text", { class: "board-title", x: 0, y: 12 }, `${metric.title}, ${metric.lead}, ${metric.better} is better`),
    ];
    const front = all.filter((point) => point.isFront);
    const path = front.map((point, place) => `${place ? `H${x(point.x)}V` : `M${x(point.x)} `}${y(point.y)}`).join("");
    const svg = element("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `Passes for an image against ${metric.title}` },
      ...grid, element("path", { class: "board-line", d: `${path}${front.length ? `H${end}` : ""}` }), ...labels);
    for (const point of [...all.filter((other) => !other.isFront), ...front]) {
      const title = element("title", {}, `${point.method.title}: ${point.x} passes, ${text(point.y)}`);
      const circle = element("circle", { cx: x(point.x), cy: y(point.y), r: 4 }, title);
      svg.append(element("g", { class: point.isFront ? "board-on" : "" }, circle));
    }
    chart.replaceChildren(svg);
    name(svg, all, x, y, width);
  }

  // Draw the names of all points, each joined to its point by a line. Names of the points with the fewest passes are to
  // the left of their column, the others to the right. A name without room is shown only when a reader points at it.
  function name(svg, all, x, y, width) {
    const taken = all.map((point) => ({ x: x(point.x) - 5, y: y(point.y) - 5, width: 10, height: 10 }));
    const isFree = (box) => taken.every((other) => box.x > other.x + other.width || other.x > box.x + box.width
      || box.y >= other.y + other.height || other.y >= box.y + box.height);
    const columns = Map.groupBy([...all].sort((a, b) => y(a.y) - y(b.y)), (point) => point.x);
    for (const [passes, points] of columns) {
      const isFirst = passes === Math.min(...columns.keys());
      const sides = isFirst ? [-1] : x(passes) > width - 130 ? [-1, 1] : [1, -1];
      const heights = spread(points.map((point) => y(point.y)));
      for (const [place, point] of points.entries()) {
        for (const [shift, side] of [0, -LINE, LINE, -2 * LINE, 2 * LINE].flatMap((shift) => sides.map((side) => [shift, side]))) {
          const [to, height] = [x(passes) + 20 * side, heights[place] + shift];
          const label = element("text", { x: to + 3 * side, y: height + 4, "text-anchor": side < 0 ? "end" : "start" }, point.method.title);
          const group = element("g", { class: `board-name${point.isFront ? " board-on" : ""}` }, label,
            element("path", { d: `M${x(passes) + 6 * side} ${y(point.y)}L${to} ${height}` }));
          svg.append(group);
          const box = label.getBBox();
          if (isFree(box) && box.x + box.width <= width) {
            taken.push(box);
            break;
          }
          group.remove();
        }
      }
    }
  }

  // Return the heights, in order, moved to be at least LINE apart and within the frame.
  function spread(heights) {
    const placed = [];
    for (const height of heights) placed.push(Math.max(height, (placed.at(-1) ?? -Infinity) + LINE));
    let most = chart.firstChild.height.baseVal.value - MARGIN.bottom;
    for (let place = placed.length - 1; place >= 0; place -= 1) {
      placed[place] = Math.min(placed[place], most);
      most = placed[place] - LINE;
    }
    return placed;
  }

  function list(all) {
    const rows = all.map((point) => {
      const row = document.createElement("tr");
      const name = Object.assign(document.createElement("th"), { scope: "row" });
      name.append(Object.assign(document.createElement("a"), { href: point.method.page, textContent: point.method.title }));
      row.append(name, ...[[point.x, true], [text(point.y), true], [point.isFront ? "yes" : "no", false]].map(([cell, isNumber]) =>
        Object.assign(document.createElement("td"), { className: isNumber ? "page-number" : "", textContent: cell })));
      return row;
    });
    document.querySelector("#board-points tbody").replaceChildren(...rows);
  }

  function update() {
    const metric = metrics[Number(metricList.value)];
    const all = points(metric, Number(networkList.value));
    const spots = new Map(); // {position on the front: the titles of its methods}
    for (const point of all.filter((other) => other.isFront)) {
      const spot = `${point.x} pass${point.x === 1 ? "" : "es"}, ${text(point.y)}`;
      spots.set(spot, [...(spots.get(spot) ?? []), point.method.title]);
    }
    const front = [...spots].map(([spot, titles]) => `${titles.join("; ")} (${spot})`);
    const found = `On the front on ${networks[Number(networkList.value)]}: ${front.join("; ")}.`;
    document.getElementById("board-front").textContent = all.length ? found : "No method has a counted cost and a value here.";
    if (all.length) draw(all, metric); else chart.replaceChildren();
    list(all);
  }

  for (const control of [metricList, networkList]) control.addEventListener("change", update);
  document.addEventListener("boardfilter", (event) => {
    hidden = event.detail;
    update();
  });
  let width = 0;
  new ResizeObserver(() => {
    if (chart.clientWidth === width) return;
    width = chart.clientWidth;
    update();
  }).observe(chart);
  update();
})();
