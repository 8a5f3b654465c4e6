"use strict";

const titles = ["Composition", "Lighting", "Focus & Sharpness", "Color Harmony", "Subject Isolation",
  "Depth & Perspective", "Visual Balance", "Emotional Impact"];
const expectedTokens = 600;
const element = (id) => document.getElementById(id);
const results = element("results");

function fill(card, selector, text) {
  card.querySelector(selector).textContent = text;
}

function show(card, job) {
  const words = {queued: "Waiting", running: "At work", completed: "", failed: job.error, canceled: "Canceled"};
  fill(card, ".state", words[job.status] ?? job.status);
  card.dataset.status = job.status;
  card.querySelector(".picture").href = job.links.self + "?format=html";
  if (job.status !== "completed") return;
  card.querySelector("progress").remove();
  fill(card, ".grade", job.critique.overall_grade);
  const by = job.adapter_version ? "adapter " + job.adapter_version : "base model";
  fill(card, ".more", `${by}, ${job.mode}, ${job.seconds.toFixed(1)} s`);
  const list = card.querySelector(".scores");
  Object.values(job.critique.dimensional_analysis).forEach((entry, index) => {
    const item = document.createElement("li");
    const meter = document.createElement("meter");
    meter.max = 10;
    meter.value = entry.score;
    const name = document.createElement("span");
    name.textContent = titles[index];
    const score = document.createElement("b");
    score.textContent = entry.score;
    item.title = entry.comment;
    item.append(name, meter, score);
    list.append(item);
  });
}

function follow(card, job) {
  const source = new EventSource(job.links.events);
  const bar = card.querySelector("progress");
  const say = (text) => fill(card, ".state", text);
  const data = (event) => JSON.parse(event.data);
  source.addEventListener("queued", (event) => say(`Waiting, place ${data(event).position}`));
  source.addEventListener("started", (event) => say(`At work (${data(event).strategy})`));
  source.addEventListener("fallback", (event) => say(`${data(event).from} could not answer, trying ${data(event).to}`));
  source.addEventListener("tried_again", () => say("Trying again"));
  source.addEventListener("tokens", (event) => { bar.value = Math.min(99, 100 * data(event).tokens / expectedTokens); });
  const finish = async () => {
    source.close();
    const answer = await fetch(job.links.self, {headers: {Accept: "application/json"}});
    show(card, await answer.json());
  };
  for (const kind of ["completed", "failed", "canceled"]) source.addEventListener(kind, finish);
}

async function ask(file, mode) {
  const card = element("card").content.firstElementChild.cloneNode(true);
  results.prepend(card);
  fill(card, ".file", file.name + (mode ? ` (${mode})` : ""));
  fill(card, ".state", "Sending");
  const image = card.querySelector("img");
  image.src = URL.createObjectURL(file);
  image.onerror = () => image.remove();
  const form = new FormData();
  form.append("image", file);
  form.append("advisor", element("advisor").value);
  if (mode) form.append("mode", mode);
  try {
    const answer = await fetch("/analyze", {method: "POST", body: form,
      headers: {Accept: "application/json", Prefer: "respond-async"}});
    const body = await answer.json();
    if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
    show(card, body);
    if (body.status === "queued" || body.status === "running") follow(card, body);
  } catch (error) {
    card.dataset.status = "failed";
    card.querySelector("progress")?.remove();
    fill(card, ".state", error.message);
  }
}

function take(files) {
  const chosen = element("mode").value;
  const modes = chosen === "both" ? ["lora", "baseline"] : [chosen];
  for (const file of files) for (const mode of modes) ask(file, mode);
}

const drop = element("drop");
element("files").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
for (const kind of ["dragover", "dragenter"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
element("ask").addEventListener("submit", (event) => event.preventDefault());
