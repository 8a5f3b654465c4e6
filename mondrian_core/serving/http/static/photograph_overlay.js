// A recommendation that has the pointer, the keyboard or a tap shows its outlines on the photograph. Without this script
// the links do: they lead to the outlines, which are drawn while they are the target.

for (const link of document.querySelectorAll("[data-shows]")) {
  const outline = document.querySelector(`[data-outline="${link.dataset.shows}"]`);
  if (!outline) continue;
  const area = link.closest("[data-points]") ?? link;
  const show = () => outline.classList.add("shown");
  const hide = () => outline.classList.remove("shown");
  area.addEventListener("pointerenter", show);
  area.addEventListener("pointerleave", () => { if (document.activeElement !== link) hide(); });
  link.addEventListener("focus", show);
  link.addEventListener("blur", hide);
  area.addEventListener("click", (event) => {
    if (event.target.closest("a") && event.target.closest("a") !== link) return;
    link.focus({preventScroll: true}); // shows it until something else has the focus, wherever the page scrolls
    if (event.target.closest("a") !== link) return;
    event.preventDefault();
    outline.closest(".pictured").scrollIntoView({block: "nearest",
      behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
  });
}
