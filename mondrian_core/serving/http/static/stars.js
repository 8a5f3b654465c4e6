// Five buttons that rate a critique; the last rating counts.

const words = ["of no use", "weak", "fair", "good", "as I would say it"];

export function showStars(place, jobId, rating) {
  place.replaceChildren();
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", "Your rating");
  const said = document.createElement("span");
  said.className = "said";
  said.setAttribute("role", "status");
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
    said.textContent = value ? words[value - 1] : "";
  };
  async function rate(value) {
    try {
      const answer = await fetch(`/jobs/${jobId}/rating`, {method: "POST", body: JSON.stringify({rating: value}),
        headers: {"Content-Type": "application/json", Accept: "application/json"}});
      const body = await answer.json();
      if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
      mark(body.rating);
    } catch (error) {
      said.textContent = error.message;
    }
  }
  place.append(...buttons, said);
  mark(Number(rating) || 0);
}
