// Dice curves as a small SVG, and the same numbers as a table.

const INK = ["#ffb454", "#7cb7ff", "#c792ea", "#9aa4b2"];
const DASH = ["", "6 3", "2 3", "8 3 2 3"];
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [320, 190, 30, 8, 8, 24];

type Curves = Record<string, number[]>;

function element(name: string, attributes: Record<string, string | number>, text?: string): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Draw the curves; an episode that ended early keeps its last Dice. */
export function drawChart(into: HTMLElement, curves: Curves): void {
  const clicks = Math.max(2, ...Object.values(curves).map((curve) => curve.length));
  const x = (click: number) => LEFT + ((click - 1) / (clicks - 1)) * (WIDTH - LEFT - RIGHT);
  const y = (dice: number) => TOP + (1 - dice) * (HEIGHT - TOP - BOTTOM);
  const names = Object.keys(curves);
  const svg = element("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT + 17 * names.length}`,
    role: "img",
    "aria-label": `Dice after each click of ${names.join(", ")}; the table below holds the numbers`,
  });
  for (const dice of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      element("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(dice), y2: y(dice), stroke: "#343b47" }),
      element("text", { x: LEFT - 5, y: y(dice) + 4, fill: "#a4adba", "font-size": 11, "text-anchor": "end" }, `${dice}`),
    );
  }
  for (let click = 1; click <= clicks; click += 1) {
    svg.append(
      element("text", { x: x(click), y: HEIGHT - 8, fill: "#a4adba", "font-size": 11, "text-anchor": "middle" }, `${click}`),
    );
  }
  names.forEach((name, index) => {
    const curve = curves[name];
    const full = Array.from({ length: clicks }, (_, i) => curve[Math.min(i, curve.length - 1)] ?? 0);
    const ink = { stroke: INK[index % 4], "stroke-dasharray": DASH[index % 4], "stroke-width": index ? 1.8 : 2.8 };
    svg.append(
      element("polyline", { points: full.map((d, i) => `${x(i + 1)},${y(d)}`).join(" "), fill: "none", ...ink }),
      ...curve.map((d, i) => element("circle", { cx: x(i + 1), cy: y(d), r: index ? 2 : 3.4, fill: INK[index % 4] })),
    );
    const row = HEIGHT + 12 + 17 * index;
    svg.append(
      element("line", { x1: LEFT, x2: LEFT + 34, y1: row - 4, y2: row - 4, ...ink }),
      element("text", { x: LEFT + 42, y: row, fill: "#e8ebf0", "font-size": 12 }, name),
    );
  });
  into.replaceChildren(svg);
}

/** Write Dice after clicks 1, 3, 5 and the last into a table. */
export function drawTable(into: HTMLElement, curves: Curves): void {
  const last = Math.max(1, ...Object.values(curves).map((curve) => curve.length));
  const shown = [...new Set([1, 3, 5, last])].filter((click) => click <= last).sort((a, b) => a - b);
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const text of ["clicker", ...shown.map((click) => `Dice@${click}`)]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [name, curve] of Object.entries(curves)) {
    const row = body.insertRow();
    const first = document.createElement("th");
    first.scope = "row";
    first.textContent = name;
    row.append(first);
    for (const click of shown) row.insertCell().textContent = (curve[Math.min(click, curve.length) - 1] ?? 0).toFixed(3);
  }
  into.replaceChildren(table);
}
