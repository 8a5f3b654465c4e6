// The page of one critique: rating, judgements of its advice, and correction.

import "/static/judgement.js";
import {postJson, showStars} from "/static/stars.js";

const jobId = document.querySelector(".critique").dataset.job;
const stars = document.querySelector(".stars");
const form = document.querySelector(".correction");
const status = form.querySelector(".status");

showStars(stars, jobId, stars.dataset.rating);

// 1 to 5 rate, unless a field has the keyboard or a modifier makes it another shortcut
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !/^[1-5]$/.test(event.key)) return;
  stars.querySelectorAll("button")[Number(event.key) - 1]?.click();
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const dimensions = {};
  for (const field of form.querySelectorAll("fieldset")) {
    dimensions[field.dataset.dimension] = {score: Number(field.querySelector("input").value),
      comment: field.querySelector("textarea").value};
  }
  status.textContent = "Saving";
  try {
    await postJson(`/jobs/${jobId}/correction`, {dimensional_analysis: dimensions});
    status.textContent = "Saved. The next training uses it instead of the model's critique.";
  } catch (error) {
    status.textContent = error.message;
  }
});
