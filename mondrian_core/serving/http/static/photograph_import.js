// The page that imports photographs: files and folders are sent one by one, and each has its result.

const maxParallel = 2; // the service decodes one photograph at a time; the second is on its way meanwhile
const maxShownImported = 60;
const retrySeconds = 5;
const maxAttempts = 20;
const element = (id) => document.getElementById(id);
const form = element("import");
const queue = [];
const counts = {};
let total = 0;
let finished = 0;
let busy = 0;
let skipped = 0;
let shownImported = 0;

if (form) {
  const suffixes = form.dataset.suffixes.split(" ");
  const most = Number(form.dataset.most);
  const outcomes = JSON.parse(form.dataset.outcomes);

  const isPhotograph = (name) => suffixes.some((suffix) => name.toLowerCase().endsWith(suffix));
  const isHidden = (path) => path.split("/").some((part) => part.startsWith("."));

  function summarize() {
    // in the order of the outcomes: two files are on their way at once, and either may be answered first
    const parts = Object.entries(outcomes).filter(([outcome]) => counts[outcome])
      .map(([outcome, title]) => `${counts[outcome].toLocaleString()} ${title}`);
    if (skipped) parts.push(`${skipped.toLocaleString()} other ${skipped === 1 ? "file" : "files"} left alone`);
    const state = finished < total ? `${finished.toLocaleString()} of ${total.toLocaleString()}` : "Done";
    element("summary").textContent = `${state}: ${parts.join(", ") || "nothing yet"}.`;
    element("progress").max = Math.max(1, total);
    element("progress").value = finished;
    element("progress").hidden = finished >= total;
    element("after").hidden = finished < total || !(counts.imported || counts.known);
  }

  // Every file that was not imported is listed; of the imported ones the first few are enough.
  function show(result) {
    finished += 1;
    counts[result.outcome] = (counts[result.outcome] ?? 0) + 1;
    summarize();
    if (result.outcome === "imported" && ++shownImported > maxShownImported) return;
    const row = element("row").content.cloneNode(true);
    if (result.sha256 && result.path) {
      const image = new Image(72, 48);
      image.alt = "";
      image.loading = "lazy";
      image.src = `/photographs/${result.sha256}/thumbnail?side=160`;
      row.querySelector(".thumb").append(image);
    }
    row.querySelector(".file").textContent = result.file;
    const badge = row.querySelector(".badge");
    badge.textContent = outcomes[result.outcome];
    if (result.outcome === "imported") badge.classList.add("good");
    if (result.outcome === "rejected") badge.classList.add("bad");
    row.querySelector(".detail").textContent = result.detail ?? "";
    element("rows").append(row);
    element("rows").hidden = false;
  }

  const rejected = (name, detail) => show({file: name, outcome: "rejected", detail});

  async function send({file, name, advisor, portfolio}) {
    const body = new FormData();
    body.append("advisor", advisor);
    if (portfolio) body.append("portfolio", "yes");
    body.append("photographs", file, name);
    for (let attempt = 1; ; attempt++) {
      let answer = null;
      try {
        answer = await fetch("/photographs", {method: "POST", body, headers: {Accept: "application/json"}});
      } catch {
        answer = null; // the service restarts, the network is gone, or the file can't be read any more
      }
      if ((answer === null || answer.status === 503) && attempt < maxAttempts) {
        const seconds = Number(answer?.headers.get("Retry-After")) || retrySeconds;
        await new Promise((done) => setTimeout(done, 1000 * seconds));
        continue;
      }
      if (answer === null) return rejected(name, "it could not be sent");
      const told = await answer.json().catch(() => ({title: `the service answered ${answer.status}`}));
      if (!answer.ok) return rejected(name, `${told.title} ${told.detail ?? ""}`.trim());
      return told.files.forEach(show);
    }
  }

  async function work() {
    while (queue.length) await send(queue.shift());
    busy -= 1;
  }

  function add(file, path) {
    const name = path || file.name;
    if (isHidden(name)) return;
    if (!isPhotograph(name) && !file.type.startsWith("image/")) {
      skipped += 1;
      return;
    }
    total += 1;
    if (file.size > most) {
      rejected(name, `larger than ${Math.round(most / 1e6)} MB: import it with \`mondrian import\``);
      return;
    }
    queue.push({file, name, advisor: element("advisor").value, portfolio: element("portfolio").checked});
  }

  function begin() {
    element("results").hidden = false;
    element("write").href = `/write?advisor=${encodeURIComponent(element("advisor").value)}`;
    summarize();
    while (busy < maxParallel && queue.length) {
      busy += 1;
      work();
    }
  }

  function addFiles(files) {
    for (const file of files) add(file, file.webkitRelativePath);
    begin();
  }

  async function addEntry(entry, path) {
    if (entry.isFile) {
      const file = await new Promise((done) => entry.file(done, () => done(null)));
      if (file) add(file, path + entry.name);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const inside = await new Promise((done) => reader.readEntries(done, () => done([])));
      if (!inside.length) return;
      for (const each of inside) await addEntry(each, `${path}${entry.name}/`);
    }
  }

  async function drop(event) {
    event.preventDefault();
    element("drop").classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.length) return addFiles(event.dataTransfer.files);
    for (const entry of entries) await addEntry(entry, "");
    begin();
  }

  element("files").addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = "";
  });
  element("folder-files").addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = "";
  });
  element("folder").hidden = false;
  element("folder").addEventListener("click", () => element("folder-files").click());
  element("send").hidden = true; // files are sent as soon as they are chosen; the button works without this script
  form.addEventListener("submit", (event) => event.preventDefault());
  element("drop").addEventListener("dragover", (event) => {
    event.preventDefault();
    element("drop").classList.add("over");
  });
  element("drop").addEventListener("dragleave", () => element("drop").classList.remove("over"));
  element("drop").addEventListener("drop", drop);
  addEventListener("beforeunload", (event) => {
    if (finished < total) event.preventDefault();
  });
}
