// The advisor's critiqued photographs that are most like the one on the page.

export async function showSimilar(address, advisor) {
  const how = document.getElementById("similar-how");
  const list = document.getElementById("similar-list");
  const template = document.getElementById("similar-card");
  try {
    const answer = await fetch(address, {headers: {Accept: "application/json"}});
    const body = await answer.json();
    if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
    if (!body.photographs.length) {
      how.textContent = "None yet: they appear here once photographs of this advisor have critiques. "
        + `Import the advisor's own with \u201cmondrian import FOLDER --advisor ${advisor} --portfolio\u201d; `
        + `\u201cmondrian index --advisor ${advisor}\u201d compares them by the base model's embeddings.`;
      return;
    }
    how.textContent = `Compared by ${body.compared_by}.`;
    for (const each of body.photographs) {
      const card = template.content.cloneNode(true);
      const link = card.querySelector("a");
      link.href = `/write/${each.sha256}?advisor=${encodeURIComponent(advisor)}`;
      link.setAttribute("aria-label", `${each.name}, overall grade ${each.grade || "unknown"}`);
      card.querySelector("img").src = `/photographs/${each.sha256}/thumbnail?side=320`;
      card.querySelector(".similar-grade").textContent = each.grade || "";
      card.querySelector(".similar-name").textContent = each.name;
      const first = Object.values(each.comments).find(Boolean) || "";
      card.querySelector(".similar-comment").textContent = first;
      card.querySelector(".similar-comment").title = Object.values(each.comments).join("\n");
      list.append(card);
    }
  } catch (error) {
    how.textContent = error.message;
  }
}
