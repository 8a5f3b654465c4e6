// Runs before the page is drawn, so that a remembered theme shows at once: not a module, not deferred.

(() => {
  const root = document.documentElement;
  const themes = ["system", "light", "dark"];
  const stored = () => {
    try {
      const theme = localStorage.getItem("theme");
      return themes.includes(theme) ? theme : "system";
    } catch {
      return "system"; // storage is switched off
    }
  };
  const apply = (theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };
  root.classList.add("scripted");
  apply(stored());

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector(".theme");
    const show = (theme) => {
      button.querySelector(".theme-name").textContent = theme;
      apply(theme);
    };
    show(stored());
    button.addEventListener("click", () => {
      const theme = themes[(themes.indexOf(stored()) + 1) % themes.length];
      try {
        localStorage.setItem("theme", theme);
      } catch { /* it lasts until the next page */ }
      show(theme);
    });
    const menu = document.querySelector(".menu-button");
    const pages = document.getElementById("pages");
    const open = (is) => {
      menu.setAttribute("aria-expanded", String(is));
      pages.classList.toggle("open", is);
    };
    menu.addEventListener("click", () => open(menu.getAttribute("aria-expanded") !== "true"));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || menu.getAttribute("aria-expanded") !== "true") return;
      open(false);
      menu.focus();
    });
  });
  window.addEventListener("storage", (event) => {
    if (event.key === "theme") apply(stored());
  });
})();
