/* Runs: sort, filter and choose in the page. Forms that change the champion: sent once. */

const numeric = value => value !== "" && !Number.isNaN(Number(value));

function compareValues(first, second) {
  if (first === "" || second === "") return (first === "") - (second === "");  // unknown values last
  return numeric(first) && numeric(second) ? Number(first) - Number(second) : first.localeCompare(second, undefined, {numeric: true});
}

function sortRows(table, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const name = heading.dataset.sort, body = table.tBodies[0];
  const rows = [...body.rows].sort((first, second) => {
    const [a, b] = [first.dataset[name], second.dataset[name]];
    return a === "" || b === "" ? compareValues(a, b) : (descending ? -1 : 1) * compareValues(a, b);
  });
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortRows(table, heading));
  }
}

const runs = document.querySelector("form.runs");
if (runs) {
  const search = runs.querySelector("#filter"), filters = [...runs.querySelectorAll("[data-filter]")];
  const rows = [...runs.querySelectorAll("tbody tr")].map(row => ({row, text: row.textContent.toLowerCase(), box: row.querySelector("input")}));
  const status = runs.querySelector(".chosen"), compare = runs.querySelector("button[type=submit]");
  const fewest = Number(runs.dataset.fewest), most = Number(runs.dataset.most);

  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const {row, text, box} of rows) {
      const matches = words.every(word => text.includes(word))
        && filters.every(filter => !filter.value || row.dataset[filter.dataset.filter] === filter.value);
      row.hidden = !matches && !box.checked;  // what is chosen stays in sight
      shown += !row.hidden;
    }
    const chosen = rows.filter(({box}) => box.checked).length;
    compare.disabled = chosen < fewest || chosen > most;
    const hint = chosen > most ? `${chosen} chosen: at most ${most} can be compared.` : chosen ? `${chosen} chosen.` : `Choose ${fewest} to ${most} to compare.`;
    status.textContent = `${shown === rows.length ? rows.length : `${shown} of ${rows.length}`} runs. ${hint}`;
  };
  runs.addEventListener("input", update);
  runs.addEventListener("keydown", event => {
    if (event.key === "Enter" && event.target === search) event.preventDefault();
  });
  addEventListener("pageshow", update);  // a browser that goes back restores what was typed
  update();
}

const decision = document.querySelector("form.decision");
if (decision) {
  const button = decision.querySelector("button[type=submit]");
  decision.addEventListener("submit", () => {
    button.disabled = true;
    button.textContent = "Working …";
  });
  addEventListener("pageshow", event => { if (event.persisted) location.reload(); });
}
