// The page: what is chosen, what is asked of the server, and what it answered. Text of others is set as text, never as HTML.

import { draw, layout, lines, placed } from "/drawing.js";

const PAUSE = 60, PAINT_PAUSE = 350, NEAR = 16;
const SAMPLES = {
  motorcycle: { files: ["motorcycle-left.jpg", "motorcycle-right.jpg"], turn: 20, zoom: 0 },
  cat: { files: ["cat.jpg"], turn: -75, zoom: 0 },
  coffee: { files: ["coffee.jpg"], turn: 50, zoom: -0.5 },
};
const STAGES = [["turn", "turn and zoom"], ["detect", "detect"], ["describe", "describe"], ["match", "match"], ["verify", "verify"]];
const GEOMETRIES = {
  homography: "A plane, or a camera that only turned.",
  fundamental: "Any rigid scene, seen from two places.",
};
const id = (name) => document.getElementById(name);
const page = Array.from(crypto.getRandomValues(new Uint8Array(12)), (value) => value.toString(16).padStart(2, "0")).join("");
const canvas = id("canvas"), context = canvas.getContext("2d");
const state = { pictures: [null, null], answer: null, scores: null, pointed: null, limits: null, painting: false };

// What is chosen

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const pose = () => ({ turn: Number(id("turn").value), zoom: 2 ** Number(id("zoom").value) });
const ready = () => state.pictures.every(Boolean);

function request() {
  return {
    first: state.pictures[0].token, second: state.pictures[1].token, pose: pose(),
    network: { weights: id("weights").value, keypoints: 2 ** Number(id("keypoints").value), size: Number(id("size").value) },
    geometry: chosen("geometry"), threshold: Number(id("threshold").value), scores: id("show-scores").checked,
  };
}

function tellChoices() {
  const { turn, zoom } = pose();
  id("turn-value").textContent = `${turn}°`;
  id("zoom-value").textContent = `${zoom.toFixed(2)} ×`;
  id("threshold-value").textContent = `${id("threshold").value} px`;
  id("keypoints-value").textContent = String(2 ** Number(id("keypoints").value));
  id("geometry-hint").textContent = GEOMETRIES[chosen("geometry")];
}

// What the server is asked

/** An answer of the server; what it says of an error is thrown. */
async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, { ...options, headers: { "x-page": page, ...options.headers } });
  } catch {
    throw new Error("The server does not answer. Is 'lfnet serve' still running?");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(told.error ?? `The server failed (${answer.status}).`), { status: answer.status });
}

const asked = (address, values) =>
  ask(address, { method: "POST", body: JSON.stringify(values), headers: { "content-type": "application/json" } });

/** Send a file; what the page keeps of it. */
async function send(file, name) {
  if (state.limits && file.size > state.limits.bytes) {
    throw new Error(`${name}: larger than ${Math.round(state.limits.bytes / 2 ** 20)} MB; send a smaller file`);
  }
  const told = await ask("/pictures", { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } })
    .catch((error) => { throw new Error(`${name}: ${error.message}`); })
    .then((answer) => answer.json());
  const bitmap = await createImageBitmap(await (await ask(`/pictures/${told.token}`)).blob());
  return { ...told, file, name, bitmap };
}

/** Ask for something of the held pictures; where the server has let go of them, send them again first. */
async function askOfPictures(address, values) {
  try {
    return await asked(address, values());
  } catch (error) {
    if (error.status !== 410) throw error;
    const [first, second] = state.pictures, again = await send(first.file, first.name);
    state.pictures = [again, first === second ? again : await send(second.file, second.name)];
    return asked(address, values());
  }
}

/** Run a task when nothing has changed for a moment; one at a time, and once more if something has changed meanwhile. */
function live(pause, task) {
  let timer = null, running = false, again = false;
  async function run() {
    if (running) { again = true; return; }
    running = true;
    try { await task(); } finally {
      running = false;
      if (again) { again = false; run(); }
    }
  }
  return () => { clearTimeout(timer); timer = setTimeout(run, pause); };
}

const match = live(PAUSE, async () => {
  if (!ready()) return;
  document.body.classList.add("busy");
  const started = performance.now(), wanted = request(), of = state.pictures;
  try {
    const answer = await (await askOfPictures("/match", request)).json();
    const scores = answer.scores ? await Promise.all(answer.scores.map(decoded)) : null;
    if (of.some((picture, index) => picture.file !== state.pictures[index].file)) return;
    Object.assign(state, { answer: { ...answer, pose: wanted.pose, geometry: wanted.geometry }, scores, pointed: null });
    tell(performance.now() - started);
    tellProblem("");
    canvas.dataset.turn = wanted.pose.turn;
    redraw();
  } catch (error) {
    if (error.status !== 409) tellProblem(error.message);
  } finally {
    document.body.classList.remove("busy");
  }
});

const paint = live(PAINT_PAUSE, async () => {
  if (!ready() || !state.painting) return;
  try {
    const values = () => ({ second: state.pictures[1].token, pose: pose(), weights: id("weights").value });
    const answer = await (await askOfPictures("/target", values)).json();
    const { width, height } = state.pictures[1];
    for (const image of document.querySelectorAll("[data-drawing]")) {
      image.style.setProperty("--shape", `${width} / ${height}`);
      image.src = answer.drawings[image.dataset.drawing];
    }
    id("painted").textContent = `${answer.dots} dots. View j sees ${Math.round(100 * answer.seen)} % of view i.`;
  } catch (error) {
    if (error.status !== 409) id("painted").textContent = error.message;
  }
});

async function decoded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

// What it answered

function tell(milliseconds) {
  const { answer } = state, inliers = answer.inliers.filter(Boolean).length;
  id("n-inliers").textContent = inliers;
  id("n-matches").textContent = answer.matches.length;
  id("n-keypoints").textContent = `${answer.first.keypoints.length} + ${answer.second.keypoints.length}`;
  const total = STAGES.reduce((sum, [name]) => sum + (answer.stages[name] ?? 0), 0);
  id("n-time").textContent = `${total.toFixed(total < 10 ? 1 : 0)} ms`;
  const right = answer.right?.filter(Boolean).length;
  const told = answer.right
    ? `${right} of ${answer.matches.length} matches are within 3 px of the true place, which the sliders tell.`
    : `${inliers} of ${answer.matches.length} matches agree with one ${answer.geometry === "homography" ? "homography" : "fundamental matrix"}.`;
  id("status").textContent = told;
  canvas.setAttribute("aria-label", `Two images and the lines between them. ${told}`);
  tellTimes(total, milliseconds);
}

function tellTimes(total, milliseconds) {
  const { stages, kept } = state.answer, known = STAGES.filter(([name]) => name in stages);
  id("bar").replaceChildren(...known.map(([name]) => {
    const part = document.createElement("span");
    part.className = `s${STAGES.findIndex(([other]) => other === name)}`;
    part.style.flexGrow = stages[name] / Math.max(total, 0.1);
    return part;
  }));
  const rows = known.map(([name, words]) => row(`s${STAGES.findIndex(([other]) => other === name)}`, words, stages[name]));
  id("stages").replaceChildren(...rows, row("", "answered after", milliseconds));
  id("kept").textContent = kept ? "Of the second image alone: what was found in the first was kept." : "Of both images.";
}

function row(mark, words, milliseconds) {
  const item = document.createElement("li"), value = document.createElement("b");
  if (mark) item.append(Object.assign(document.createElement("i"), { className: mark }));
  value.textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
  item.append(words, value);
  return item;
}

function tellProblem(message) {
  id("problem").textContent = message;
  id("problem").hidden = !message;
}

// What is seen

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["shade", "card"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function scene(width, tallest) {
  const { places, height } = layout(width, tallest, state.pictures);
  return {
    places, height, pictures: state.pictures.map((picture) => picture.bitmap), pose: pose(), answer: state.answer, scores: state.scores,
    show: chosen("lines"), keypoints: id("show-keypoints").checked, pointed: state.pointed, colours: colours(),
  };
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (!ready()) return;
    const width = canvas.clientWidth, seen = scene(width, Math.max(260, 0.66 * innerHeight)), ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(seen.height * ratio);
    canvas.style.height = `${seen.height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw(context, seen);
    state.seen = seen;
  });
}

/** The keypoint nearest to the pointer that has a line, told in words below and drawn above all others. */
function point(event) {
  if (!state.seen?.answer) return;
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  const points = placed(state.seen);
  let best = null;
  for (const [a, b] of lines(state.answer, chosen("lines"))) {
    [points[0][a], points[1][b]].forEach((place, side) => {
      const distance = Math.hypot(place.x - x, place.y - y);
      if (distance < (best?.distance ?? NEAR)) best = { side, index: side ? b : a, distance, a: points[0][a].row, b: points[1][b].row };
    });
  }
  if (best?.index === state.pointed?.index && best?.side === state.pointed?.side) return;
  state.pointed = best;
  id("pointed").hidden = !best;
  if (best) {
    const turn = ((best.b[3] - best.a[3]) * 180 / Math.PI + 540) % 360 - 180;
    id("pointed").textContent = `turned by ${turn.toFixed(0)}°, ${(best.b[2] / best.a[2]).toFixed(2)} times as large`;
  }
  redraw();
}

// What is done

function changed(event) {
  if (event?.target.type === "file") return;
  tellChoices();
  redraw();
  match();
  paint();
}

/** Take one picture for both sides, two for one each, or one for the side that it was given to. */
async function take(files, side = null) {
  const given = [...files].slice(0, side === null ? 2 : 1);
  if (!given.length) return;
  tellProblem("");
  document.body.classList.add("busy");
  try {
    const sent = await Promise.all(given.map((file) => send(file, file.name)));
    const before = state.pictures;
    if (side === null) state.pictures = [sent[0], sent.at(-1)];
    else state.pictures = before.map((picture, index) => (index === side ? sent[0] : picture ?? sent[0]));
    Object.assign(state, { answer: null, scores: null, pointed: null });
    delete canvas.dataset.turn;
    letGo(before);
    state.pictures.forEach((picture, index) => { id(`name-${index}`).textContent = picture.name; });
    for (const button of document.querySelectorAll("[data-sample]")) button.setAttribute("aria-pressed", "false");
    changed();
    if (files.length > given.length) tellProblem("Two images at a time: the first two are shown.");
    return true;
  } catch (error) {
    tellProblem(error.message);
    return false;
  } finally {
    document.body.classList.remove("busy");
  }
}

function letGo(pictures) {
  for (const picture of new Set(pictures)) {
    if (picture && !state.pictures.includes(picture)) fetch(`/pictures/${picture.token}`, { method: "DELETE", keepalive: true });
  }
}

async function takeSample(name) {
  const { files, turn, zoom } = SAMPLES[name];
  const blobs = await Promise.all(files.map(async (file) => new File([await (await ask(`/samples/${file}`)).blob()], file)));
  id("turn").value = turn;
  id("zoom").value = zoom;
  if (await take(blobs)) document.querySelector(`[data-sample="${name}"]`).setAttribute("aria-pressed", "true");
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function saveFeatures(format) {
  if (!ready()) return;
  const names = state.pictures.map((picture) => picture.name);
  try {
    const answer = await askOfPictures("/features", () => ({ match: request(), format, names }));
    save(await answer.blob(), `features.${format}`);
  } catch (error) {
    tellProblem(error.message);
  }
}

function saveDrawing() {
  if (!ready()) return;
  const large = document.createElement("canvas"), seen = { ...scene(1600, Infinity), pointed: null };
  [large.width, large.height] = [1600, Math.round(seen.height)];
  const drawn = large.getContext("2d");
  drawn.fillStyle = seen.colours.card;
  drawn.fillRect(0, 0, large.width, large.height);
  draw(drawn, seen);
  large.toBlob((blob) => save(blob, "matches.png"));
}

function listen() {
  id("controls").addEventListener("input", changed);
  id("controls").addEventListener("submit", (event) => event.preventDefault());
  id("upright").addEventListener("click", () => { id("turn").value = 0; id("zoom").value = 0; changed(); });
  for (const side of [0, 1]) {
    id(`file-${side}`).addEventListener("change", async (event) => {
      await take(event.target.files, state.pictures.every((picture) => !picture) ? null : side);
      event.target.value = "";
    });
  }
  for (const button of document.querySelectorAll("[data-sample]")) button.addEventListener("click", () => takeSample(button.dataset.sample));
  for (const button of document.querySelectorAll("[data-format]")) button.addEventListener("click", () => saveFeatures(button.dataset.format));
  id("save-drawing").addEventListener("click", saveDrawing);
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragged"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragged"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragged");
    const slot = event.target.closest?.("[data-slot]");
    take(event.dataTransfer.files, slot && state.pictures[0] ? Number(slot.dataset.slot) : null);
  });
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerleave", () => { state.pointed = null; id("pointed").hidden = true; redraw(); });
  addEventListener("pagehide", () => { const held = state.pictures; state.pictures = [null, null]; letGo(held); });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  new ResizeObserver(redraw).observe(canvas.parentElement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new IntersectionObserver(([seen]) => { state.painting = seen.isIntersecting; paint(); }, { rootMargin: "200px" }).observe(id("target"));
}

async function begin() {
  listen();
  tellChoices();
  try {
    state.limits = await (await ask("/about")).json();
    const names = [...state.limits.weights].sort((a, b) => (b === "lfnet-lean") - (a === "lfnet-lean"));
    id("weights").replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name, textContent: name })));
    await takeSample("motorcycle");
  } catch (error) {
    tellProblem(error.message);
  }
}

begin();
