// Sorts the sheet and the critiques below it. Without a script the order is by grade.
const order = document.querySelector("#order");
const lists = [...document.querySelectorAll("[data-sorted]")];

function compare(key, first, second) {
  const [a, b] = [first.dataset[key] ?? "", second.dataset[key] ?? ""];
  if (key === "name" || key === "taken") {
    return (a === "") - (b === "") || a.localeCompare(b, undefined, { numeric: true });
  }
  return Number(b) - Number(a);
}

order.addEventListener("change", () => {
  const [key, direction] = order.value.split(" ");
  const sign = direction === "up" ? -1 : 1;
  for (const list of lists) {
    list.append(...[...list.children].sort((first, second) => sign * compare(key, first, second)));
  }
});
order.closest("form").hidden = false;
