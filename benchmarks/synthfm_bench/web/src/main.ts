// The page: which structure is open, what the buttons and keys do, what is said about the last step.

import "./style.css";

import { type Facts, RefusedError, type Step, type Study, type Voxel, api } from "./api";
import { drawChart, drawTable } from "./chart";
import { ThoughtClock } from "./clock";
import { Viewer } from "./viewer";

const at = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const button = (id: string) => at<HTMLButtonElement>(id);
const slider = (id: string) => at<HTMLInputElement>(id);

const viewer = new Viewer(at<HTMLCanvasElement>("canvas"), at<HTMLCanvasElement>("marks"));
const clock = new ThoughtClock();
let study: Study;
let task = -1; // the structure that is open
let facts: Facts | null = null;
let busy = false;
let paused = false;
let initial = { low: 0, high: 1 }; // the window in which the image was opened
let spent: Spent | null = null; // on the newest mask

/** Milliseconds from a click to its mask on the screen, and their parts. */
interface Spent {
  all: number;
  server: number; // the request, there and back
  model: number | null; // the segmenter's part of that
  drawing: number; // from the answer to the repaint
  frame: number; // the graphics card's part of that
}

const running = () => task >= 0 && !busy && !paused && !facts?.ended;

const counted = (n: number, thing: string) => `${n} ${thing}${n === 1 ? "" : "s"}`;

function say(text: string): void {
  at("status").textContent = text;
}

function update(): void {
  const ended = facts?.ended ?? false;
  const left = study.tasks.filter((one) => !one.done).length;
  button("undo").disabled = !running() || !facts?.in_force;
  button("finish").disabled = !running() || study.target === "free";
  button("finish").hidden = study.target === "free";
  button("pause").disabled = task < 0 || ended || busy;
  button("next").disabled = busy || paused || (task >= 0 && !ended && study.target !== "free") || left === 0;
  button("save").disabled = busy || task < 0;
  button("save-dicom").disabled = busy || task < 0;
  button("save-dicom").hidden = !study.dicom;
  button("end").hidden = !study.records;
  button("end").disabled = busy || left === study.tasks.length;
  const done = study.tasks.length - left;
  at("progress").textContent = study.records ? `${done} of ${study.tasks.length} structures finished` : "";
}

/** Run something that asks the server; whatever it refuses is said. */
async function work(what: () => Promise<void>): Promise<void> {
  busy = true;
  update();
  try {
    await what();
  } catch (error) {
    if (!(error instanceof RefusedError || error instanceof TypeError)) throw error;
    say(error instanceof RefusedError ? error.message : "the server does not answer; is `synthfm play` still running?");
  } finally {
    viewer.release();
    busy = false;
    update();
  }
}

function curtain(text: string | null, label = "", then: () => void = () => undefined): void {
  at("curtain").hidden = text === null;
  at("curtain-text").textContent = text ?? "";
  button("curtain-button").textContent = label;
  button("curtain-button").hidden = !label;
  button("curtain-button").onclick = then;
  if (label) button("curtain-button").focus();
}

// One structure

async function open(index: number): Promise<void> {
  await work(async () => {
    say("Opening the image ...");
    const opened = await api.open(index);
    await viewer.open(await api.image(), opened);
    task = index;
    facts = null;
    at("result").hidden = true;
    at("target").textContent = opened.structure;
    at("facts").textContent = `${opened.case}, ${opened.modality}, ${opened.shape.join(" × ")} voxels (z, y, x)`;
    const shown = opened.target === "outline" || opened.target === "glimpse";
    const target = shown ? await api.target() : null;
    viewer.showTarget(target);
    if (target) viewer.moveToLargestSlice(target);
    at("hint").textContent = {
      outline: "Practice: its outline is shown in green, and Dice after each click.",
      glimpse: "Its outline is shown in green until your first click. Scroll through the slices first.",
      name: "Named only: no outline is shown.",
      free: "Click anywhere inside a structure. Next structure begins another.",
    }[opened.target];
    initial = viewer.window;
    setSliders();
    viewer.setOpacity(slider("opacity").valueAsNumber / 100);
    say(opened.clicks ? `${opened.clicks} clicks at most, undo counts as one.` : "Click inside the structure.");
    curtain(null);
    at("canvas").focus();
    clock.begin();
  });
}

async function place(zyx: Voxel, positive: boolean): Promise<void> {
  if (!running()) return;
  const thought = clock.read();
  await work(async () => {
    const begun = performance.now();
    viewer.hold();
    const step = await api.click(zyx, positive, thought);
    viewer.marks = [...viewer.marks, { zyx, positive }];
    if (study.target === "glimpse" && step.facts.step === 1) {
      viewer.showTarget(null);
      at("hint").textContent = "The outline comes back when you finish.";
    }
    await show(step, begun);
    told(`${positive ? "Inside" : "Outside"} at z ${zyx[0]}, y ${zyx[1]}, x ${zyx[2]}.`, step.facts);
  });
  if (facts?.ended) await finished();
}

async function undo(): Promise<void> {
  if (!running() || !facts?.in_force) return;
  const thought = clock.read();
  await work(async () => {
    const begun = performance.now();
    const step = await api.undo(thought);
    viewer.marks = viewer.marks.slice(0, -1);
    await show(step, begun);
    told("Click taken back.", step.facts);
  });
  if (facts?.ended) await finished();
}

async function finish(): Promise<void> {
  if (!running() || study.target === "free") return;
  const thought = clock.read();
  await work(async () => {
    const begun = performance.now();
    await show(await api.finish(thought), begun);
  });
  if (facts?.ended) await finished();
}

async function show(step: Step, begun: number): Promise<void> {
  const answered = performance.now();
  facts = step.facts;
  await viewer.apply(step);
  const painted = performance.now();
  spent = {
    all: painted - begun,
    server: answered - begun,
    model: facts.predict_s === null ? null : facts.predict_s * 1000,
    drawing: painted - answered,
    frame: viewer.frameMilliseconds,
  };
  clock.begin();
}

function told(what: string, now: Facts): void {
  const parts = [what, `${now.voxels} voxels.`];
  if (now.dice !== null) parts.push(`Dice ${now.dice.toFixed(3)}.`);
  if (now.left !== null) parts.push(`${counted(now.left, "click")} left.`);
  say(now.error ? `The segmenter failed: ${now.error}` : parts.join(" "));
  if (!spent) return;
  const model = spent.model === null ? "" : ` (the model ${Math.round(spent.model)} ms)`;
  at("facts").textContent =
    `Mask on the screen after ${Math.round(spent.all)} ms: ` +
    `server ${Math.round(spent.server)} ms${model}, drawing ${Math.round(spent.drawing)} ms.`;
}

async function finished(): Promise<void> {
  study.tasks[task].done = true;
  await work(async () => {
    say(`Finished: Dice ${facts?.dice?.toFixed(3) ?? "0"}. Playing the same case with simulated clickers ...`);
    const target = await api.target();
    viewer.showTarget(target);
    viewer.moveToLargestSlice(target);
    at("hint").textContent = "Green: the target. Orange: your mask.";
    const curves = await api.curves();
    drawChart(at("chart"), curves);
    drawTable(at("table"), curves);
    at("result").hidden = false;
    const left = study.tasks.filter((one) => !one.done).length;
    say(`Finished: Dice ${facts?.dice?.toFixed(3) ?? "0"}. ${left ? `${counted(left, "structure")} left.` : "That was the last."}`);
    button(left ? "next" : "end").focus();
  });
}

async function next(): Promise<void> {
  if (button("next").disabled) return;
  const after = study.tasks.findIndex((one, index) => index > task && !one.done);
  await open(study.target === "free" ? 0 : after >= 0 ? after : study.tasks.findIndex((one) => !one.done));
}

function pause(): void {
  if (button("pause").disabled || paused) return;
  paused = true;
  clock.run(false);
  update();
  curtain("Paused: the image is hidden, and the time is not counted.", "Go on", () => {
    paused = false;
    clock.run(true);
    curtain(null);
    update();
    at("canvas").focus();
  });
}

async function end(): Promise<void> {
  if (button("end").disabled) return;
  await work(async () => {
    const ended = await api.end();
    const mean = Object.values(ended.dice).reduce((sum, dice) => sum + dice, 0) / Object.keys(ended.dice).length;
    curtain(
      `Thank you. Mean Dice ${mean.toFixed(3)} over ${counted(Object.keys(ended.dice).length, "structure")}` +
        `${ended.left ? `; ${ended.left} are left, and the same command goes on with --out ${ended.folder}` : ""}.\n` +
        `Records: ${ended.folder}\nBeside simulated clickers: synthfm report ${ended.folder} RUN\n` +
        "You may close this page.",
    );
  });
}

// Display and files

function setSliders(): void {
  const { low, high, least, most } = viewer.window;
  for (const [id, from, to, value] of [
    ["level", least, most, (low + high) / 2],
    ["window", 0, most - least, high - low],
  ] as const) {
    const input = slider(id);
    input.min = String(from);
    input.max = String(to);
    input.step = String((to - from) / 400 || 1);
    input.value = String(value);
  }
  showWindow();
}

function showWindow(): void {
  for (const id of ["level", "window"]) at(`${id}-value`).textContent = slider(id).valueAsNumber.toPrecision(4);
}

function toggle3d(): void {
  viewer.show3d(!viewer.shows3d);
  button("show-3d").setAttribute("aria-pressed", String(viewer.shows3d));
}

function toggleMask(): void {
  const shown = button("show-mask").getAttribute("aria-pressed") !== "true";
  button("show-mask").setAttribute("aria-pressed", String(shown));
  viewer.setOpacity(shown ? slider("opacity").valueAsNumber / 100 : 0);
}

async function save(format: "nifti" | "dicom"): Promise<void> {
  await work(async () => {
    const file = await api.mask(format);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    at("saved").textContent = `Saved as ${file.name}.`;
  });
}

// Keys work wherever the focus is, but for sliders and buttons, which have their own.

const KEYS: Record<string, () => unknown> = {
  u: undo,
  p: pause,
  f: finish,
  n: next,
  m: toggleMask,
  d: toggle3d,
  s: () => save("nifti"),
  "+": () => (slider("inside").checked = true),
  "-": () => (slider("outside").checked = true),
};
const CANVAS_KEYS: Record<string, () => unknown> = {
  ArrowLeft: () => viewer.moveBy([0, 0, -1]),
  ArrowRight: () => viewer.moveBy([0, 0, 1]),
  ArrowUp: () => viewer.moveBy([0, 1, 0]),
  ArrowDown: () => viewer.moveBy([0, -1, 0]),
  PageUp: () => viewer.moveBy([1, 0, 0]),
  PageDown: () => viewer.moveBy([-1, 0, 0]),
  Enter: () => place(viewer.crosshair, true),
  Backspace: () => place(viewer.crosshair, false),
};

function pressed(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") return;
  const onCanvas = event.target === at("canvas");
  const act = (onCanvas && CANVAS_KEYS[event.key]) || KEYS[event.key.toLowerCase()];
  if (onCanvas) event.stopImmediatePropagation(); // NiiVue has keys of its own
  if (!act || paused) return;
  event.preventDefault();
  void act();
}

async function begin(): Promise<void> {
  study = await api.study();
  document.title = `${study.title}: synthfm play`;
  at("title").textContent = study.title;
  at("who").textContent = `${study.who}, with ${study.segmenter}`;
  await viewer.attach();
  button("show-3d").setAttribute("aria-pressed", String(viewer.shows3d));
  if (viewer.drawnBySoftware) button("show-3d").title = "off at first: this browser draws without a graphics card";
  viewer.onClick = (zyx, pointerButton) => {
    if (pointerButton > 2) return;
    void place(zyx, pointerButton === 0 && slider("inside").checked);
  };
  document.addEventListener("keydown", pressed, { capture: true });
  document.addEventListener("visibilitychange", () => clock.run(!document.hidden && !paused));
  for (const [id, act] of Object.entries({ undo, pause, finish, next, end, "show-mask": toggleMask, "show-3d": toggle3d })) {
    button(id).addEventListener("click", () => void act());
  }
  button("save").addEventListener("click", () => void save("nifti"));
  button("save-dicom").addEventListener("click", () => void save("dicom"));
  button("reset-window").addEventListener("click", () => {
    viewer.setWindow(initial.low, initial.high);
    setSliders();
  });
  slider("opacity").addEventListener("input", () => {
    button("show-mask").setAttribute("aria-pressed", "true");
    viewer.setOpacity(slider("opacity").valueAsNumber / 100);
  });
  for (const id of ["level", "window"]) {
    slider(id).addEventListener("input", () => {
      const [level, width] = [slider("level").valueAsNumber, slider("window").valueAsNumber];
      viewer.setWindow(level - width / 2, level + width / 2);
      showWindow();
    });
  }
  // For tests, which read the mask and place clicks where a voxel is on the screen.
  Object.assign(window, {
    synthfm: { viewer, spent: () => spent, facts: () => facts, busy: () => busy },
  });
  update();
  const first = study.tasks.findIndex((one) => !one.done);
  if (first < 0) {
    curtain(`Every structure of ${study.title} is finished.\nRecords: ${study.folder}`);
    return;
  }
  const records = study.records
    ? `\n\nYour clicks, their times and the alias you chose go to ${study.folder} on this machine, and nowhere else. ` +
      "By starting you agree to that. Closing the page leaves out the structure that is open."
    : "";
  curtain(`${study.title}: ${study.description}${records}`, "Start", () => void open(first));
}

begin().catch((error: unknown) => {
  curtain(`This page cannot start: ${error instanceof Error ? error.message : String(error)}`);
});
