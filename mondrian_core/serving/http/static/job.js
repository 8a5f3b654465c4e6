// The page of a job that has not ended: shows its progress, and the critique once it is there.

const article = document.querySelector(".critique");
const title = article.querySelector(".waiting h2");
const bar = article.querySelector(".waiting progress");
const expectedTokens = 600;
const retrySeconds = 5;

function listen() {
  const source = new EventSource(`/jobs/${article.dataset.job}/events`);
  const on = (kind, act) => source.addEventListener(kind, act);
  on("queued", (event) => { title.textContent = `Waiting, position ${JSON.parse(event.data).position}`; });
  on("started", () => { title.textContent = "In progress"; });
  on("tokens", (event) => {
    const {at, tokens} = JSON.parse(event.data);
    if (at !== "crops") bar.value = Math.min(99, 100 * tokens / expectedTokens);  // the answer is complete by then
  });
  for (const kind of ["completed", "failed", "canceled"]) on(kind, () => { source.close(); location.reload(); });
  on("error", () => { source.close(); setTimeout(listen, 1000 * retrySeconds); });
}

listen();
