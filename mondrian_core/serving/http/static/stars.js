// Five star buttons that rate a critique; the last rating counts.

const words = ["useless", "weak", "fair", "good", "excellent"];

// The answer's JSON; an error with the service's words where it refuses.
export async function postJson(url, values) {
  const answer = await fetch(url, {method: "POST", body: JSON.stringify(values),
    headers: {"Content-Type": "application/json", Accept: "application/json"}});
  const body = await answer.json();
  if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
  return body;
}

export function showStars(place, jobId, rating) {
  place.replaceChildren();
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", "Your rating");
  const status = document.createElement("span");
  status.className = "status";
  status.setAttribute("role", "status");
  const buttons = words.map((word, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "\u2605";
    button.title = `${index + 1} of 5: ${word}`;
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => rate(index + 1));
    return button;
  });
  const mark = (value) => {
    buttons.forEach((button, index) => {
      button.classList.toggle("on", index < value);
      button.setAttribute("aria-pressed", String(index + 1 === value));
    });
    status.textContent = value ? words[value - 1] : "";
  };
  async function rate(value) {
    try {
      mark((await postJson(`/jobs/${jobId}/rating`, {rating: value})).rating);
    } catch (error) {
      status.textContent = error.message;
    }
  }
  place.append(...buttons, status);
  mark(Number(rating) || 0);
}
