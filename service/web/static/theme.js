// Runs before the first paint, so that a page never flashes in the theme the reader did not choose.
(() => {
  "use strict";
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* storage may be forbidden; the system's theme is fine */ }
  document.documentElement.classList.add("js");
})();
