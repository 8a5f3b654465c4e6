// Two buttons that judge one piece of advice; the last judgement counts.

import {postJson} from "/static/stars.js";

function showJudgement(place) {
  const {url, key, value, label, words} = place.dataset;
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", label);
  const status = document.createElement("span");
  status.className = "status";
  status.setAttribute("role", "status");
  const buttons = words.split("|").map((word, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button small";
    button.textContent = word;
    button.addEventListener("click", () => judge(index === 0));
    return button;
  });
  const mark = (chosen) => buttons.forEach((button, index) => {
    button.setAttribute("aria-pressed", String(chosen === (index === 0)));
  });
  async function judge(chosen) {
    try {
      await postJson(url, {[key]: chosen});
      mark(chosen);
      status.textContent = "Saved.";
    } catch (error) {
      status.textContent = error.message;
    }
  }
  place.append(...buttons, status);
  mark(value === "" ? null : value === "true");
}

document.querySelectorAll(".judgement").forEach(showJudgement);
