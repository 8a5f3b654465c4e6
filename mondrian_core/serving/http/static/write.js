// Writing a critique: scores by keys or sliders, every change stored, save and next.

import {EntryStorage} from "/static/write_storage.js";
import {startViewer} from "/static/write_viewer.js";
import {startSimilar} from "/static/write_similar.js";

const desk = document.getElementById("desk");
const form = document.getElementById("critique");
const status = document.getElementById("status");
const fieldsets = [...form.querySelectorAll("fieldset")];
const keys = document.getElementById("keys");
const {photograph, advisor} = desk.dataset;
const address = (what) => `/write/${photograph}${what}?advisor=${encodeURIComponent(advisor)}`;
const viewer = startViewer(`/write/${photograph}/pixels?advisor=${encodeURIComponent(advisor)}`);
const similar = startSimilar(desk);
let marked = 0;
let leaving = false;

// --- the form as an entry ---------------------------------------------------------------------------------------

const slider = (field) => field.querySelector("input[type=range]");
const text = (field, part) => field.querySelector(`[data-part=${part}]`);

function readEntry() {
  const dimensions = {};
  for (const field of fieldsets) {
    const score = slider(field);
    dimensions[field.dataset.dimension] = {score: score.dataset.scored === "yes" ? Number(score.value) : null,
      comment: text(field, "comment").value, recommendation: text(field, "recommendation").value};
  }
  const written = (name) => form.querySelector(`#${name}`).value;
  return {dimensions, strengths: written("strengths"), priority_improvements: written("priority_improvements"),
    notes: written("notes")};
}

function showScore(field, score) {
  const input = slider(field);
  input.dataset.scored = score === null ? "no" : "yes";
  if (score !== null) input.value = score;
  input.setAttribute("aria-valuetext", score === null ? "not scored" : `${score} of 10`);
  field.querySelector("output").textContent = score === null ? "\u2013" : String(score);
  field.classList.toggle("missing", field.classList.contains("missing") && score === null);
}

function showEntry(entry) {
  for (const field of fieldsets) {
    const typed = entry.dimensions[field.dataset.dimension];
    showScore(field, typed.score);
    text(field, "comment").value = typed.comment;
    text(field, "recommendation").value = typed.recommendation;
  }
  form.querySelector("#strengths").value = entry.strengths;
  form.querySelector("#priority_improvements").value = entry.priority_improvements;
  form.querySelector("#notes").value = entry.notes;
}

function say(words, failed = false) {
  status.textContent = words;
  status.classList.toggle("failed", failed);
}

// What is stored in the background doesn't hide why the critique is not saved: that holds while something is missing.
function sayStored(words, failed = false) {
  if (failed || !fieldsets.some((field) => field.classList.contains("missing"))) say(words, failed);
}

const storage = new EntryStorage({
  address, readEntry, showEntry, say: sayStored, key: `mondrian-write:${advisor}:${photograph}`,
  stored: JSON.parse(desk.dataset.stored), conflict: document.getElementById("conflict"),
});

// --- requests that leave the page ------------------------------------------------------------------------------

async function leaveWith(request, where) {
  if (leaving) return;
  leaving = true;
  try {
    location.assign(where(await storage.send(...request)));
  } catch (error) {
    leaving = false;
    if (error.current) storage.showConflict(error.current);
    else say(error.message, true);
  }
}

const nextOf = (body) => (body.next ? body.next.url : `/write?advisor=${encodeURIComponent(advisor)}`);

function markMissing() {
  const missing = fieldsets.filter((field) => slider(field).dataset.scored !== "yes" || !text(field, "comment").value.trim());
  fieldsets.forEach((field) => field.classList.toggle("missing", missing.includes(field)));
  if (!missing.length) return false;
  const first = missing[0];
  const unscored = slider(first).dataset.scored !== "yes";
  mark(fieldsets.indexOf(first));
  if (!unscored) text(first, "comment").focus();
  const scores = fieldsets.filter((field) => slider(field).dataset.scored !== "yes").length;
  const comments = fieldsets.filter((field) => !text(field, "comment").value.trim()).length;
  const parts = [[scores, "score"], [comments, "comment"]].filter(([count]) => count)
    .map(([count, word]) => `${count} ${word}${count === 1 ? "" : "s"}`);
  say(`Not saved yet: ${parts.join(" and ")} to go. What you typed is stored.`, true);
  return true;
}

async function save() {
  if (storage.conflicting || markMissing()) return;
  say("Saving");
  await storage.flush();
  await leaveWith(["POST", "/critique", {revision: storage.revision, entry: readEntry()}], (body) => {
    storage.forget();
    return nextOf(body);
  });
}

async function setState(state) {
  await storage.flush();
  await leaveWith(["PUT", "/state", {state}], nextOf);
}

async function undo() {
  const {earlier, earlierState} = desk.dataset;
  if (!earlier || leaving) return;
  const request = earlierState === "saved" ? ["POST", "undo", {}] : ["PUT", "state", {state: "open"}];
  await storage.flush();
  await leaveWith([request[0], `../${earlier}/${request[1]}`, request[2]],
    () => `/write/${earlier}?advisor=${encodeURIComponent(advisor)}`);
}

async function showDraft() {
  const button = document.getElementById("draft");
  button.disabled = true;
  await storage.flush();
  try {
    for (;;) {
      const body = await storage.send("POST", "/draft", {});
      if (body.draft) {
        drawDraft(body.draft);
        say("The base's draft is shown. It is recorded that you saw it.");
        return;
      }
      say("The base model is drafting. You can go on writing.");
      await new Promise((resume) => setTimeout(resume, 1000));
    }
  } catch (error) {
    say(error.message, true);
  } finally {
    button.disabled = false;
  }
}

function drawDraft(draft) {
  for (const field of fieldsets) {
    const said = draft[field.dataset.dimension];
    const place = field.querySelector(".drafted");
    place.hidden = !said;
    place.textContent = said ? `The base: ${said.score}. ${said.comment || ""}` : "";
  }
}

// --- marking and scoring ----------------------------------------------------------------------------------------

function mark(place, focus = true) {
  marked = Math.max(0, Math.min(fieldsets.length - 1, place));
  fieldsets.forEach((field, index) => field.classList.toggle("marked", index === marked));
  similar.show(fieldsets[marked].dataset.dimension, fieldsets[marked].querySelector("legend").textContent);
  if (!focus) return;
  fieldsets[marked].focus({preventScroll: true});
  fieldsets[marked].scrollIntoView({block: "nearest"});
}

function score(value, {advance = false} = {}) {
  const field = fieldsets[marked];
  showScore(field, value);
  storage.changed();
  field.dataset.last = value === null ? "" : "yes";
  fieldsets.forEach((each) => each !== field && delete each.dataset.last);
  if (advance && marked < fieldsets.length - 1) mark(marked + 1);
}

function halfMore() {
  const field = fieldsets.find((each) => each.dataset.last) || fieldsets[marked];
  const input = slider(field);
  if (input.dataset.scored !== "yes" || Number(input.value) % 1 || Number(input.value) === 10) return;
  showScore(field, Number(input.value) + 0.5);
  storage.changed();
}

function nextComment(from) {
  const order = [...fieldsets.slice(from + 1), ...fieldsets.slice(0, from + 1)];
  const empty = order.find((field) => !text(field, "comment").value.trim());
  if (!empty) {
    mark(marked);
    say("Every dimension has a comment. Ctrl or \u2318 with Enter saves it.");
    return;
  }
  mark(fieldsets.indexOf(empty), false);
  text(empty, "comment").focus();
}

// --- keys -------------------------------------------------------------------------------------------------------

const isText = (element) => element instanceof HTMLTextAreaElement || element instanceof HTMLInputElement
  && element.type !== "range";
const isControl = (element) => element.closest?.("button, a, summary");

const actions = {
  x: () => score(10, {advance: true}), ".": halfMore, ",": halfMore,
  Backspace: () => score(null), Delete: () => score(null),
  j: () => mark(marked + 1), k: () => mark(marked - 1), ArrowDown: () => mark(marked + 1), ArrowUp: () => mark(marked - 1),
  c: () => text(fieldsets[marked], "comment").focus(), Enter: () => text(fieldsets[marked], "comment").focus(),
  r: () => text(fieldsets[marked], "recommendation").focus(),
  s: () => setState("skipped"), n: () => setState("excluded"), u: undo, d: showDraft,
  m: () => similar.toggle(), z: () => viewer.toggleZoom(), f: () => viewer.toggleFullScreen(), "?": () => keys.showModal(),
  ArrowLeft: () => go("before"), ArrowRight: () => go("after"),
};

async function go(where) {
  if (!desk.dataset[where] || leaving) return;
  await storage.flush();
  location.assign(desk.dataset[where]);
}

document.addEventListener("keydown", (event) => {
  if (keys.open || event.isComposing || event.altKey) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    event.preventDefault();
    save();
    return;
  }
  if (event.ctrlKey || event.metaKey) return;
  if (isText(event.target)) {
    typedInText(event);
    return;
  }
  const arrow = event.key.startsWith("Arrow");
  if (arrow && (event.target.type === "range" || viewer.isZoomed() && event.target.id === "viewer")) return;
  if (event.key === "Enter" && isControl(event.target)) return;
  const digit = /^[0-9]$/.test(event.key) && !event.repeat;
  const act = digit ? () => score(Number(event.key), {advance: true})
    : actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

function typedInText(event) {
  if (event.key === "Escape") mark(marked);
  else if (event.key === "Enter" && !event.shiftKey && event.target.dataset.part === "comment") nextComment(marked);
  else return;
  event.preventDefault();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
form.addEventListener("input", (event) => {
  const field = event.target.closest("fieldset");
  if (event.target.type === "range") showScore(field, Number(event.target.value));
  storage.changed();
});
for (const [place, field] of fieldsets.entries()) {
  field.addEventListener("focusin", () => mark(place, false));
  field.addEventListener("pointerdown", () => mark(place, false));
  // a tap on the thumb's own place changes no value: neither an input event nor a click follows
  slider(field).addEventListener("pointerup", (event) => {
    if (event.target.dataset.scored === "yes") return;
    showScore(field, Number(event.target.value));
    storage.changed();
  });
}
for (const [id, act] of [["skip", () => setState("skipped")], ["exclude", () => setState("excluded")], ["undo", undo],
  ["draft", showDraft], ["help", () => keys.showModal()], ["zoom", () => viewer.toggleZoom()], ["similar-button", () => similar.toggle()],
  ["full", () => viewer.toggleFullScreen()]]) {
  document.getElementById(id)?.addEventListener("click", act);
}

fieldsets.forEach((field) => showScore(field, slider(field).dataset.scored === "yes" ? Number(slider(field).value) : null));
storage.start();
const unscored = fieldsets.findIndex((field) => slider(field).dataset.scored !== "yes");
mark(Math.max(0, unscored), false);
if (document.getElementById("draft").dataset.seen) showDraft();
similar.load(address("/similar"), advisor);
