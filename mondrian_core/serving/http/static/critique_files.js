// The page of critique files: preview an import, then confirm exactly what was shown.

const element = (id) => document.getElementById(id);
const form = element("import");
const badges = {new: "good", changed: "attention", conflict: "bad", refused: "bad"};
let shown = null; // the form data and the signature of the preview

function critiques(count) {
  return count === 1 ? "1 critique" : `${count.toLocaleString("en")} critiques`;
}

function badge(outcome) {
  const mark = document.createElement("span");
  mark.className = `badge ${badges[outcome] ?? ""}`.trim();
  mark.textContent = outcome;
  return mark;
}

function showProblem(text) {
  element("problem").textContent = text;
  element("problem").hidden = !text;
}

function line(...parts) {
  const item = document.createElement("li");
  item.append(...parts);
  return item;
}

function countLine(outcome, count) {
  const number = document.createElement("b");
  number.textContent = count.toLocaleString("en");
  const kind = document.createElement("span");
  kind.append(badge(outcome));
  const meaning = document.createElement("span");
  meaning.textContent = element("meanings").content.querySelector(`[data-outcome="${outcome}"]`)?.textContent ?? "";
  return line(number, kind, meaning);
}

function rowLine(row, several) {
  const cells = [several || !row.row ? [row.file, row.row].filter(Boolean).join(", ") : row.row, badge(row.outcome), row.photograph, row.reason];
  const tableRow = document.createElement("tr");
  for (const cell of cells) {
    const data = document.createElement("td");
    data.append(cell);
    tableRow.append(data);
  }
  return tableRow;
}

function conclusion(done) {
  if (done.saved) return `Saved ${critiques(done.to_write)}.`;
  if (done.bad && !done.skip_bad) {
    return `${done.bad.toLocaleString("en")} of ${done.rows_total.toLocaleString("en")} rows can't be used, so nothing would be saved. ` +
      "Fix them and preview the file again, or save the good rows with the box above.";
  }
  if (!done.to_write) return "Nothing to save: the workspace has all of these critiques.";
  return `The import would save ${critiques(done.to_write)}. Nothing is saved yet.`;
}

function show(done) {
  const several = new Set(done.rows.map((row) => row.file)).size > 1;
  element("result-title").textContent = done.saved ? "Imported" : "Preview";
  element("conclusion").textContent = conclusion(done);
  element("counts").replaceChildren(
    ...Object.entries(done.counts).filter(([, count]) => count).map(([outcome, count]) => countLine(outcome, count)));
  element("notices").replaceChildren(...done.notices.map((text) => line(text)));
  element("rows").hidden = !done.rows.length;
  element("rows").querySelector("tbody").replaceChildren(...done.rows.map((row) => rowLine(row, several)));
  element("more").hidden = done.rows_total <= done.rows.length;
  element("more").textContent = `The first ${done.rows.length} of ${done.rows_total.toLocaleString("en")} rows.`;
  element("confirm").hidden = done.saved || !done.to_write || (done.bad > 0 && !done.skip_bad);
  element("confirm").textContent = `Import ${critiques(done.to_write)}`;
  element("result").hidden = false;
  element("result-title").focus();
}

function forget() {
  shown = null;
  element("result").hidden = true;
  showProblem("");
}

async function send(data) {
  const buttons = [element("preview"), element("confirm")];
  for (const button of buttons) button.disabled = true;
  showProblem("");
  try {
    const answer = await fetch("/critiques/import", {method: "POST", body: data, headers: {Accept: "application/json"}});
    const body = await answer.json();
    if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
    return body;
  } catch (error) {
    forget();
    showProblem(error instanceof TypeError ? "The file could not be sent. Check that it has not changed since you chose it, and that the service runs." : error.message);
    return null;
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

async function preview() {
  const data = new FormData(form);
  data.set("dry_run", "1");
  const done = await send(data);
  if (!done) return;
  data.delete("dry_run");
  data.set("expected", done.signature);
  shown = data;
  show({...done, skip_bad: element("skip_bad").checked});
}

form.addEventListener("submit", (event) => { event.preventDefault(); preview(); });
form.addEventListener("change", (event) => {
  const again = shown && event.target.type === "checkbox";
  forget();
  if (again || (event.target.type === "file" && event.target.files.length)) preview();
});
element("confirm").addEventListener("click", async () => {
  const done = await send(shown);
  if (!done) return;
  shown = null;
  show(done);
});
