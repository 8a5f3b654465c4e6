// Follows a training: updates bar and stage, and loads the page again when the step changes.
const box = document.getElementById("training");
const current = document.querySelector(".way").dataset.current;
const SECONDS = 2;

async function look() {
  try {
    const answer = await fetch(box.dataset.url, {headers: {Accept: "application/json"}});
    const way = answer.ok ? await answer.json() : null;
    if (way && (way.current !== current || !way.retraining.at_work)) {
      location.reload();
      return;
    }
    if (way) {
      const {share, stage, done, total} = way.retraining;
      box.querySelector("progress").value = share;
      document.getElementById("stage").textContent = stage || "starting";
      document.getElementById("units").textContent = total ? `${done} of ${total}` : "";
    }
  } catch {
    // the service restarts or the network is away: the training goes on, so does asking
  }
  setTimeout(look, SECONDS * 1000);
}

if (box) setTimeout(look, SECONDS * 1000);
