"use strict";
// Keys, focus and announcements of the labelling page. Without this file its forms and links work all the same.
(() => {
  const panel = () => document.getElementById("labelling");
  const head = () => document.getElementById("labelling-head");

  // Single letters count only while the focus is in the panel, and never in a field that takes text.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (!panel()?.contains(event.target) || event.target.matches("select, textarea, input:not([type=checkbox])")) return;
    const key = CSS.escape(event.key.toLowerCase());
    const control = panel().querySelector(`[data-key="${key}"]:not(:disabled, [hidden])`);
    if (!control) return;
    event.preventDefault();
    control.click();
  });

  // A refused label comes with a page of its own (409, 422): show it as any other.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target === panel() && [404, 409, 422].includes(event.detail.xhr.status)) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
    }
  });

  const arrive = () => {
    const said = document.getElementById("labelling-said");
    if (said && panel()) said.textContent = panel().dataset.said;
    head()?.focus({ preventScroll: true });
  };
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target?.id === "labelling" || event.detail.elt?.id === "labelling") arrive();
  });
  document.addEventListener("DOMContentLoaded", arrive);

  // Whoever clicks beside a control goes on with the keys.
  document.addEventListener("pointerup", (event) => {
    if (panel()?.contains(event.target) && !event.target.closest("button, a, input, select, summary, label")) {
      head()?.focus({ preventScroll: true });
    }
  });
})();
