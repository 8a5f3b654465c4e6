// The photograph: fitted to the page, or all of its pixels to move about in; full screen.

export function startViewer(pixelsAddress) {
  const viewer = document.getElementById("viewer");
  const image = document.getElementById("photograph");
  const button = document.getElementById("zoom");
  const name = image.alt;
  let whole = null; // the image with all pixels, once it was asked for

  const isZoomed = () => viewer.classList.contains("actual");

  async function load() {
    if (whole) return whole;
    const found = new Image();
    found.src = pixelsAddress;
    found.alt = name;
    found.addEventListener("dragstart", (event) => event.preventDefault());
    viewer.classList.add("waiting");
    await found.decode().finally(() => viewer.classList.remove("waiting"));
    whole = found;
    return found;
  }

  async function toggleZoom(place = {x: 0.5, y: 0.5}) {
    if (isZoomed()) {
      viewer.classList.remove("actual");
      whole.remove();
      image.hidden = false;
      describe();
      return;
    }
    try {
      const found = await load();
      image.hidden = true;
      viewer.append(found);
      viewer.classList.add("actual");
      found.style.width = `${found.naturalWidth / window.devicePixelRatio}px`;
      viewer.scrollTo(place.x * found.offsetWidth - viewer.clientWidth / 2, place.y * found.offsetHeight - viewer.clientHeight / 2);
    } catch {
      button.textContent = "Not readable";
    }
    describe();
  }

  function describe() {
    button.setAttribute("aria-pressed", String(isZoomed()));
    button.textContent = isZoomed() ? "Fit" : "100\u00a0%";
    viewer.setAttribute("aria-label", isZoomed() ? `${name}, at 100 %; arrows move it` : `${name}, fitted to the page`);
  }

  // where a click in the viewer is on the picture, which is centered in it (object-fit: contain)
  function placeOf(event) {
    const box = image.getBoundingClientRect();
    const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const [wide, high] = [image.naturalWidth * scale, image.naturalHeight * scale];
    const within = (value) => Math.max(0, Math.min(1, value));
    return {x: within((event.clientX - box.left - (box.width - wide) / 2) / wide),
      y: within((event.clientY - box.top - (box.height - high) / 2) / high)};
  }

  let grip = null;
  let moved = false;
  viewer.addEventListener("pointerdown", (event) => {
    moved = false;
    if (!isZoomed() || event.pointerType !== "mouse") return;
    grip = {x: event.clientX + viewer.scrollLeft, y: event.clientY + viewer.scrollTop};
    viewer.setPointerCapture(event.pointerId);
    viewer.classList.add("dragging");
  });
  viewer.addEventListener("pointermove", (event) => {
    if (!grip) return;
    const [left, top] = [grip.x - event.clientX, grip.y - event.clientY];
    moved ||= Math.abs(left - viewer.scrollLeft) + Math.abs(top - viewer.scrollTop) > 4;
    viewer.scrollTo(left, top);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    viewer.addEventListener(end, () => {
      grip = null;
      viewer.classList.remove("dragging");
    });
  }
  image.addEventListener("dragstart", (event) => event.preventDefault());
  viewer.addEventListener("click", (event) => {
    if (!moved) toggleZoom(placeOf(event));
  });

  function toggleFullScreen() {
    const section = viewer.closest(".looking");
    if (document.fullscreenElement) document.exitFullscreen();
    else section.requestFullscreen?.().catch(() => {});
  }
  const full = document.getElementById("full");
  if (!document.fullscreenEnabled) full.hidden = true; // a phone that has none
  document.addEventListener("fullscreenchange", () => {
    full.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
  });
  image.addEventListener("error", () => viewer.setAttribute("aria-label", `${name}: the photograph can't be shown`));
  return {toggleZoom, toggleFullScreen, isZoomed};
}
