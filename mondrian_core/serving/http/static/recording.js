// Follows the recording of photographs that are already there; the page is loaded again when there is more to show.
const box = document.getElementById("recording");
const SECONDS = 1;
const FIRST_RECORDED = 60; // an empty page is worth loading again once that many were read

async function look() {
  try {
    const answer = await fetch("/photographs/recording", {headers: {Accept: "application/json"}});
    const found = answer.ok ? await answer.json() : null;
    if (found && (!found.at_work || ("empty" in box.dataset && found.done >= FIRST_RECORDED))) {
      location.reload();
      return;
    }
    if (found?.total) {
      const bar = document.getElementById("recording-bar");
      [bar.max, bar.value] = [found.total, found.done];
      const count = `${found.done.toLocaleString()} of ${found.total.toLocaleString()}`;
      document.getElementById("recording-count").textContent = count;
    }
  } catch {
    // the service restarts or the network is away: the recording continues, so does asking
  }
  setTimeout(look, SECONDS * 1000);
}

setTimeout(look, SECONDS * 1000);
