// Five star buttons that rate a critique; the last rating counts.

const words = ["useless", "weak", "fair", "good", "excellent"];

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
      const answer = await fetch(`/jobs/${jobId}/rating`, {method: "POST", body: JSON.stringify({rating: value}),
        headers: {"Content-Type": "application/json", Accept: "application/json"}});
      const body = await answer.json();
      if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
      mark(body.rating);
    } catch (error) {
      status.textContent = error.message;
    }
  }
  place.append(...buttons, status);
  mark(Number(rating) || 0);
}
