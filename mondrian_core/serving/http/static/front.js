// The front page: upload photographs, follow their jobs, compare modes, rate critiques.
// A card keeps its size and its place from the moment a photograph is chosen; what arrives fills what is reserved for it.

import {followGroup} from "/static/advisor_group_card.js";
import {showStars} from "/static/stars.js";

const modeNames = {lora: "adapter", rag: "comparison with portfolio", baseline: "base model"};
const expectedTokens = 600;
const finalStatuses = ["completed", "failed", "canceled"];
const retrySeconds = 2;
const maxParallel = 4; // a browser opens six connections to a host; each job in progress uses one
const element = (id) => document.getElementById(id);
const results = element("results");
const titles = JSON.parse(results.dataset.titles); // title by dimension
const waiting = [];
let busy = 0;

function fill(card, selector, text) {
  card.querySelector(selector).textContent = text;
}

function showScore(card, name, entry) {
  const line = card.querySelector(`.scores [data-dimension="${name}"]`);
  if (!line) return;
  line.querySelector("meter").value = entry.score;
  line.querySelector("b").textContent = entry.score;
  line.title = entry.comment;
}

function stopProgress(card) {
  card.querySelector("progress").classList.add("done");
}

function show(card, job) {
  const states = {queued: "Waiting", running: "In progress", completed: "Done", failed: job.error, canceled: "Canceled"};
  fill(card, ".state", states[job.status] ?? job.status);
  card.dataset.status = job.status;
  card.dataset.job = job.job_id;
  if (!["queued", "running"].includes(job.status)) stopProgress(card);
  if (job.status !== "completed") return;
  const link = job.links.self + "?format=html";
  card.querySelector(".picture").href = link;
  card.querySelector(".read a").href = link;
  fill(card, ".grade", job.critique.overall_grade);
  const by = job.adapter_version ? "adapter " + job.adapter_version : modeNames.baseline;
  const way = job.mode === "rag" ? `, ${modeNames.rag}` : "";
  const crop = job.crops ? `; ${job.crops.offered ? "a crop scores higher" : "no better crop"}` : "";
  const left = job.fallbacks.find((each) => each.left);
  fill(card, ".more", `${by}${way}, ${job.seconds.toFixed(1)} s${crop}` + (left ? `; ${left.strategy} not used: ${left.reason}` : ""));
  const image = card.querySelector("img");
  if (!image.hasAttribute("src")) image.src = job.links.photograph; // no preview was possible when it was sent
  for (const [name, entry] of Object.entries(job.critique.dimensional_analysis)) showScore(card, name, entry);
  showStars(card.querySelector(".stars"), job.job_id, job.rating);
  element("announced").textContent = `${card.querySelector(".file").textContent}: grade ${job.critique.overall_grade}`;
}

// Follows a job's events until it has ended. When the stream breaks (the service restarted, the machine slept), reads
// the job itself, and follows its events again if it has not ended.
function follow(card, job) {
  return new Promise((done) => {
    const bar = card.querySelector("progress");
    const setState = (text) => fill(card, ".state", text);
    const data = (event) => JSON.parse(event.data);
    function listen() {
      const source = new EventSource(job.links.events);
      const on = (kind, act) => source.addEventListener(kind, act);
      on("queued", (event) => setState(`Waiting, position ${data(event).position}`));
      on("started", (event) => setState(`In progress (${modeNames[data(event).strategy]})`));
      on("retrieved", (event) => setState(`Comparing with ${data(event).photographs.join(", ")}`));
      on("fallback", (event) => setState(`${data(event).from} failed, trying ${data(event).to}`));
      on("tried_again", () => setState("Trying again"));
      on("tokens", (event) => {
        const {at, tokens} = data(event);
        if (at === "crops") setState(`Looking for a better crop, pass ${tokens}`);
        else bar.value = Math.min(99, 100 * tokens / expectedTokens);
      });
      for (const kind of [...finalStatuses, "error"]) on(kind, () => { source.close(); poll(); });
    }
    async function poll() {
      let row = null;
      let problem = "The service does not respond";
      try {
        const answer = await fetch(job.links.self, {headers: {Accept: "application/json"}});
        if (answer.status === 404) {
          row = {...job, status: "failed", error: "The service no longer has this job. Send the photograph again."};
        } else if (answer.ok) {
          row = await answer.json();
        } else {
          problem = (await answer.json()).title ?? problem;
        }
      } catch { /* no response, or not from the service */ }
      if (row && finalStatuses.includes(row.status)) {
        show(card, row);
        done(row);
        return;
      }
      if (!row) setState(`${problem}, retrying every ${retrySeconds} s`);
      setTimeout(row ? listen : poll, 1000 * retrySeconds);
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
    if (card.dataset.crops) form.append("crops", "true");
    const answer = await fetch("/analyze", {method: "POST", body: form,
      headers: {Accept: "application/json", Prefer: "respond-async"}});
    const body = await answer.json();
    if (answer.status !== 503) {
      if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
      return body;
    }
    const seconds = Number(answer.headers.get("Retry-After")) || 5;
    fill(card, ".state", `The queue is full, retrying in ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

async function ask(card, file, mode) {
  fill(card, ".state", "Uploading");
  try {
    const job = await send(card, file, mode);
    if (job.group_id) return await followGroup(card, job);
    show(card, job);
    return job.status === "queued" || job.status === "running" ? await follow(card, job) : job;
  } catch (error) {
    card.dataset.status = "failed";
    stopProgress(card);
    fill(card, ".state", error.message);
    return null;
  }
}

// Shows the file itself, or, where the browser can't (HEIC, TIFF), a preview that the service makes.
function showPicture(image, file) {
  const show = (blob, otherwise) => {
    image.onload = () => URL.revokeObjectURL(image.src);
    image.onerror = otherwise;
    image.src = URL.createObjectURL(blob);
  };
  const hide = () => { image.removeAttribute("src"); };
  show(file, async () => {
    try {
      const form = new FormData();
      form.append("image", file);
      const answer = await fetch("/preview", {method: "POST", body: form, headers: {Accept: "image/jpeg, application/json"}});
      if (!answer.ok) throw new Error(answer.statusText);
      show(await answer.blob(), hide);
    } catch {
      hide(); // the critique's own answer says what is wrong with the file
    }
  });
}

function newCard(file, mode) {
  const card = element("card").content.firstElementChild.cloneNode(true);
  card.dataset.advisor = element("advisor").value;
  if (element("crops").checked) card.dataset.crops = "true";
  fill(card, ".file", file.name + (mode ? ` (${modeNames[mode]})` : ""));
  fill(card, ".state", "Waiting to upload");
  showPicture(card.querySelector("img"), file);
  return card;
}

function showDifference(pair, adapted, base) {
  if (!adapted?.critique || !base?.critique) return;
  const baseEntries = base.critique.dimensional_analysis;
  const changes = Object.entries(adapted.critique.dimensional_analysis)
    .map(([name, entry]) => [titles[name], entry.score - baseEntries[name].score]).filter(([, by]) => by);
  const list = changes.map(([title, by]) => `${title} ${by > 0 ? "+" : "\u2212"}${Math.abs(by)}`).join(", ");
  const who = adapted.adapter_version ? `Adapter ${adapted.adapter_version}` : "Fallback (no adapter answered)";
  const line = pair.querySelector(".difference");
  line.textContent = `${who} compared with the base model: ${list || "same scores"}.`;
}

function startWaiting() {
  while (busy < maxParallel && waiting.length) {
    busy += 1;
    waiting.shift()().finally(() => { busy -= 1; startWaiting(); });
  }
}

function addPhotograph(file, mode) {
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
  Promise.all(answers).then(([adapted, base]) => showDifference(pair, adapted, base));
}

function addPhotographs(files) {
  if (!files.length) return;
  results.closest("section").hidden = false;
  for (const file of files) addPhotograph(file, element("mode").value);
  startWaiting();
}

function showHistory() {
  for (const section of document.querySelectorAll(".history")) {
    section.hidden = section.dataset.advisor !== element("advisor").value;
  }
}

function receiveFiles() {
  const drop = element("drop");
  for (const id of ["files", "camera"]) {
    element(id).addEventListener("change", (event) => { addPhotographs([...event.target.files]); event.target.value = ""; });
  }
  for (const kind of ["dragover", "dragenter"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => { event.preventDefault(); addPhotographs([...event.dataTransfer.files]); });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (files.length) event.preventDefault();
    addPhotographs(files);
  });
  element("sample").addEventListener("click", async () => {
    const answer = await fetch("/sample");
    if (answer.ok) addPhotographs([new File([await answer.blob()], "sample.jpg", {type: "image/jpeg"})]);
  });
  element("ask").addEventListener("submit", (event) => event.preventDefault());
  element("advisor").addEventListener("change", showHistory);
  showHistory();
}

if (element("ask")) receiveFiles();
