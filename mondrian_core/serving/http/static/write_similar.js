// What the advisor said about similar photographs, on the dimension that is marked.

const SHOWN = "mondrian-write-similar"; // remembered in this browser

export function startSimilar(desk) {
  const section = document.getElementById("similar");
  const how = document.getElementById("similar-how");
  const list = document.getElementById("similar-list");
  const button = document.getElementById("similar-button");
  const template = document.getElementById("similar-card");
  const cards = []; // [element, photograph with its scores and comments]
  let [dimension, title] = ["", ""];

  function draw() {
    for (const [card, each] of cards) {
      const score = each.scores[dimension];
      card.querySelector(".similar-score").textContent = `${title} ${score ?? "not scored"}.`;
      card.querySelector(".similar-comment").textContent = each.comments[dimension] || "";
    }
  }

  function show(name, words) {
    [dimension, title] = [name, words];
    draw();
  }

  function set(shown) {
    section.hidden = !shown && matchMedia("(min-width: 64.01rem)").matches;
    desk.classList.toggle("without-similar", !shown);
    button.setAttribute("aria-pressed", String(shown));
  }

  function toggle() {
    const shown = desk.classList.contains("without-similar");
    set(shown);
    try {
      localStorage.setItem(SHOWN, shown ? "yes" : "no");
    } catch {
      // a private window without storage: it is shown again on the next page
    }
  }

  async function load(address, advisor) {
    try {
      const answer = await fetch(address, {headers: {Accept: "application/json"}});
      const body = await answer.json();
      if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
      if (!body.photographs.length) {
        how.textContent = "None yet: they appear once photographs of this advisor have critiques. "
          + `Import the advisor's own with \u201cmondrian import FOLDER --advisor ${advisor} --portfolio\u201d; `
          + `\u201cmondrian index --advisor ${advisor}\u201d compares them by the base model's embeddings.`;
        return;
      }
      how.textContent = `Compared by ${body.compared_by}.`;
      for (const each of body.photographs) {
        const card = template.content.cloneNode(true).firstElementChild;
        const link = card.querySelector("a");
        link.href = `/write/${each.sha256}?advisor=${encodeURIComponent(advisor)}`;
        link.setAttribute("aria-label", `${each.name}, overall grade ${each.grade || "unknown"}`);
        link.title = link.getAttribute("aria-label");
        card.querySelector("img").src = `/photographs/${each.sha256}/thumbnail?side=320`;
        cards.push([card, each]);
        list.append(card);
      }
      draw();
    } catch (error) {
      how.textContent = error.message;
    }
  }

  let remembered = null;
  try {
    remembered = localStorage.getItem(SHOWN);
  } catch {
    // as above
  }
  set(remembered !== "no");
  return {show, toggle, load};
}
