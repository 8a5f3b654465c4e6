// Starts Swagger UI on /docs; a file, because the policy forbids scripts in the page.

const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

function followTheme() {
  const theme = root.dataset.theme ?? (dark.matches ? "dark" : "light");
  root.classList.toggle("dark-mode", theme === "dark");
}

followTheme();
dark.addEventListener("change", followTheme);
new MutationObserver(followTheme).observe(root, {attributeFilter: ["data-theme"]});

window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: false, // its links inside buttons can't be reached with the keyboard
  defaultModelsExpandDepth: -1,
  docExpansion: "list",
  validatorUrl: null,
  syntaxHighlight: false,
  presets: [window.SwaggerUIBundle.presets.apis],
  onComplete() { // the page has the first heading, so those of groups come second
    for (const heading of document.querySelectorAll("#api h3.opblock-tag")) heading.setAttribute("aria-level", "2");
  },
});
