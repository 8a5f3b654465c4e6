// The history: at most two critiques are marked, and Compare can be pressed with two.

const form = document.getElementById("compare");

if (form) {
  const boxes = [...form.querySelectorAll("input[name=id]")];
  const button = form.querySelector("button");
  const hint = document.getElementById("compare-hint");
  const show = () => {
    const marked = boxes.filter((box) => box.checked).length;
    button.disabled = marked !== 2;
    for (const box of boxes) box.disabled = marked === 2 && !box.checked;
    hint.textContent = ["Mark two critiques to compare them.", "Mark one more.", "Two are marked."][marked];
  };
  form.addEventListener("change", show);
  window.addEventListener("pageshow", show);
  show();
}
