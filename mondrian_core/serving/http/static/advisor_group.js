// The page of several advisors' critiques: shows each critique when it is ready.

const pollSeconds = 2;
const group = document.querySelector(".advisor-group");
const notice = group.querySelector(".notice");

async function look() {
  try {
    const answer = await fetch(`/groups/${group.dataset.group}`, {headers: {Accept: "application/json"}});
    if (answer.ok) {
      const found = await answer.json();
      const ended = found.jobs.filter((job) => ["completed", "failed", "canceled"].includes(job.status)).length;
      if (String(ended) !== group.dataset.ended || found.status !== group.dataset.status) {
        location.reload();
        return;
      }
    }
  } catch { /* the service is restarting: look again */ }
  setTimeout(look, 1000 * pollSeconds);
}

if (group.dataset.status === "running") {
  notice.hidden = false;
  setTimeout(look, 1000 * pollSeconds);
}
