// The page to drop photographs on: send, follow, compare, rate.

import {showStars} from "/static/stars.js";

const titles = ["Composition", "Lighting", "Focus & Sharpness", "Color Harmony", "Subject Isolation",
  "Depth & Perspective", "Visual Balance", "Emotional Impact"];
const names = {lora: "adapter", rag: "comparison with the portfolio", baseline: "base model"};
const expectedTokens = 600;
const last = ["completed", "failed", "canceled"];
const askAgainSeconds = 2;
const lanes = 4; // a browser opens six connections to one host; each photograph at work holds one
const element = (id) => document.getElementById(id);
const results = element("results");
const waiting = [];
let busy = 0;

function fill(card, selector, text) {
  card.querySelector(selector).textContent = text;
}

function scoreLine(entry, title) {
  const item = document.createElement("li");
  const meter = document.createElement("meter");
  meter.max = 10;
  meter.value = entry.score;
  const name = document.createElement("span");
  name.textContent = title;
  const score = document.createElement("b");
  score.textContent = entry.score;
  item.title = entry.comment;
  item.append(name, meter, score);
  return item;
}

function show(card, job) {
  const words = {queued: "Waiting", running: "At work", completed: "", failed: job.error, canceled: "Canceled"};
  fill(card, ".state", words[job.status] ?? job.status);
  card.dataset.status = job.status;
  card.dataset.job = job.job_id;
  if (!["queued", "running"].includes(job.status)) card.querySelector("progress")?.remove();
  if (job.status !== "completed") return;
  const link = job.links.self + "?format=html";
  card.querySelector(".picture").href = link;
  card.querySelector(".read a").href = link;
  card.querySelector(".read").hidden = false;
  fill(card, ".grade", job.critique.overall_grade);
  const by = job.adapter_version ? "adapter " + job.adapter_version : names.baseline;
  const way = job.mode === "rag" ? `, ${names.rag}` : "";
  const left = job.fallbacks.find((each) => each.left);
  fill(card, ".more", `${by}${way}, ${job.seconds.toFixed(1)} s` + (left ? `; not ${left.strategy}: ${left.reason}` : ""));
  const entries = Object.values(job.critique.dimensional_analysis);
  card.querySelector(".scores").replaceChildren(...entries.map((entry, index) => scoreLine(entry, titles[index])));
  const stars = card.querySelector(".stars");
  stars.hidden = false;
  showStars(stars, job.job_id, job.rating);
}

// Listens until the job has ended. When the stream breaks (the service restarts, the machine slept), the job itself is
// asked, and if it goes on, listened to again.
function follow(card, job) {
  return new Promise((done) => {
    const bar = card.querySelector("progress");
    const say = (text) => fill(card, ".state", text);
    const data = (event) => JSON.parse(event.data);
    function listen() {
      const source = new EventSource(job.links.events);
      const on = (kind, act) => source.addEventListener(kind, act);
      on("queued", (event) => say(`Waiting, place ${data(event).position}`));
      on("started", (event) => say(`At work (${names[data(event).strategy]})`));
      on("retrieved", (event) => say(`Comparing with ${data(event).photographs.join(", ")}`));
      on("fallback", (event) => say(`${data(event).from} could not answer, trying ${data(event).to}`));
      on("tried_again", () => say("Trying again"));
      on("tokens", (event) => { bar.value = Math.min(99, 100 * data(event).tokens / expectedTokens); });
      for (const kind of [...last, "error"]) on(kind, () => { source.close(); look(); });
    }
    async function look() {
      let found = null;
      let why = "The service does not answer";
      try {
        const answer = await fetch(job.links.self, {headers: {Accept: "application/json"}});
        if (answer.status === 404) {
          found = {...job, status: "failed", error: "The service does not know this job any more. Send the photograph again."};
        } else if (answer.ok) {
          found = await answer.json();
        } else {
          why = (await answer.json()).title ?? why;
        }
      } catch { /* nobody answers, or not as the service does */ }
      if (found && last.includes(found.status)) {
        show(card, found);
        done(found);
        return;
      }
      if (!found) say(`${why}, asking again every ${askAgainSeconds} s`);
      setTimeout(found ? listen : look, 1000 * askAgainSeconds);
    }
    listen();
  });
}

async function send(card, file, mode) {
  for (;;) {
    const form = new FormData();
    form.append("image", file);
    form.append("advisor", card.dataset.advisor);
    if (mode) form.append("mode", mode);
    const answer = await fetch("/analyze", {method: "POST", body: form,
      headers: {Accept: "application/json", Prefer: "respond-async"}});
    const body = await answer.json();
    if (answer.status !== 503) {
      if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
      return body;
    }
    const seconds = Number(answer.headers.get("Retry-After")) || 5;
    fill(card, ".state", `The service is full, asking again in ${seconds} s`);
    await new Promise((wake) => setTimeout(wake, 1000 * seconds));
  }
}

async function ask(card, file, mode) {
  fill(card, ".state", "Sending");
  try {
    const job = await send(card, file, mode);
    show(card, job);
    return job.status === "queued" || job.status === "running" ? await follow(card, job) : job;
  } catch (error) {
    card.dataset.status = "failed";
    card.querySelector("progress")?.remove();
    fill(card, ".state", error.message);
    return null;
  }
}

function newCard(file, mode) {
  const card = element("card").content.firstElementChild.cloneNode(true);
  card.dataset.advisor = element("advisor").value;
  fill(card, ".file", file.name + (mode ? ` (${names[mode]})` : ""));
  fill(card, ".state", "Waiting to be sent");
  const image = card.querySelector("img");
  image.src = URL.createObjectURL(file);
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), {once: true});
  image.addEventListener("error", () => image.remove(), {once: true});
  return card;
}

function tellDifference(pair, adapted, plain) {
  if (adapted?.status !== "completed" || plain?.status !== "completed") return;
  const ours = Object.values(adapted.critique.dimensional_analysis);
  const theirs = Object.values(plain.critique.dimensional_analysis);
  const changed = ours.map((entry, index) => [titles[index], entry.score - theirs[index].score]).filter(([, by]) => by);
  const list = changed.map(([title, by]) => `${title} ${by > 0 ? "+" : "\u2212"}${Math.abs(by)}`).join(", ");
  const who = adapted.adapter_version ? `Adapter ${adapted.adapter_version}` : "No adapter answered: the base";
  const line = pair.querySelector(".difference");
  line.textContent = `${who} against the base model: ${list || "the same scores"}.`;
  line.hidden = false;
}

function work() {
  while (busy < lanes && waiting.length) {
    busy += 1;
    waiting.shift()().finally(() => { busy -= 1; work(); });
  }
}

function takeOne(file, mode) {
  if (mode !== "both") {
    const card = newCard(file, mode);
    results.append(card);
    waiting.push(() => ask(card, file, mode));
    return;
  }
  const pair = element("pair").content.firstElementChild.cloneNode(true);
  const cards = ["lora", "baseline"].map((each) => newCard(file, each));
  pair.prepend(...cards);
  results.append(pair);
  const answers = ["lora", "baseline"].map((each, index) => new Promise((done) => {
    waiting.push(() => ask(cards[index], file, each).then(done));
  }));
  Promise.all(answers).then(([adapted, plain]) => tellDifference(pair, adapted, plain));
}

function take(files) {
  for (const file of files) takeOne(file, element("mode").value);
  work();
}

function showHistory() {
  for (const section of document.querySelectorAll(".history")) {
    section.hidden = section.dataset.advisor !== element("advisor").value;
  }
}

const drop = element("drop");
element("files").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
for (const kind of ["dragover", "dragenter"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
element("ask").addEventListener("submit", (event) => event.preventDefault());
element("advisor").addEventListener("change", showHistory);
showHistory();
