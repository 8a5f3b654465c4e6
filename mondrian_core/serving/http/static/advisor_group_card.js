// A card for one photograph that several advisors critique; the critiques are on the group's own page.

const pollSeconds = 2;
const ended = (job) => ["completed", "failed", "canceled"].includes(job.status);

// Follows a group until all its jobs have ended, and shows their grades.
export async function followGroup(card, group) {
  const fill = (selector, text) => { card.querySelector(selector).textContent = text; };
  const link = group.links.self + "?format=html";
  card.querySelector(".picture").href = link;
  const read = card.querySelector(".read");
  read.hidden = false;
  read.querySelector("a").href = link;
  read.querySelector("a").textContent = "Compare the advisors";
  for (;;) {
    const done = group.jobs.filter(ended);
    card.querySelector("progress").value = 100 * done.length / group.jobs.length;
    const grades = done.map((job) => `${job.advisor} ${job.critique?.overall_grade ?? job.status}`);
    fill(".more", grades.join(", "));
    if (done.length === group.jobs.length) break;
    fill(".state", `${done.length} of ${group.jobs.length} critiques are ready`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * pollSeconds));
    try {
      const answer = await fetch(group.links.self, {headers: {Accept: "application/json"}});
      if (answer.ok) group = await answer.json();
    } catch { /* the service is restarting: ask again */ }
  }
  card.dataset.status = group.status;
  fill(".state", group.status === "failed" ? "No advisor could critique it" : "");
  card.querySelector("progress").classList.add("done");
  return group;
}
