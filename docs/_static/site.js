// Names for controls of the theme that have none, or another than the one that is seen.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".search-button-field").forEach((button) => button.removeAttribute("aria-label"));
  document.querySelectorAll("nav summary").forEach((summary) => {
    const link = summary.parentElement.parentElement.querySelector("a");
    summary.setAttribute("aria-label", `Pages of ${link ? link.textContent.trim() : "this section"}`);
  });
});
