"use strict";
// What the page does by itself: themes, dialogs, times that grow older, charts. Everything else comes from the server.

const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

// Theme

const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";

function showTheme() {
  const button = document.getElementById("theme");
  button.setAttribute("aria-pressed", String(isDark()));
  drawAll(document);
}

document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  showTheme();
});
prefersDark.addEventListener("change", showTheme);

// Charts

const colour = (role) => getComputedStyle(root).getPropertyValue(`--${role}`).trim();

function layoutOf(axis, span) {
  const grid = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false };
  return {
    height: 240, margin: { l: 52, r: 12, t: 8, b: 36 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("muted") }, hovermode: "x unified",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, showlegend: true,
    xaxis: { ...grid, type: "date", ...(span.length ? { range: span } : {}) }, yaxis: { ...grid, ...axis },
  };
}

function coloured(trace) {
  const own = colour(trace.role);
  const roles = trace.markerRoles || [];
  const marker = { ...trace.marker, color: roles.length ? roles.map(colour) : own, opacity: 1 };
  const found = { ...trace, marker, line: { ...trace.line, color: own } };
  if (trace.error_y) found.error_y = { ...trace.error_y, color: own };
  delete found.role;
  delete found.markerRoles;
  return found;
}

function draw(element) {
  const { traces, axis, span } = JSON.parse(element.dataset.chart);
  const settings = { displayModeBar: false, responsive: true };
  window.Plotly.react(element, traces.map(coloured), layoutOf(axis, span), settings);
}

function drawAll(within) {
  if (window.Plotly) for (const element of within.querySelectorAll("[data-chart]")) draw(element);
}

// Times

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];

function ago(seconds) {
  for (const [size, unit] of UNITS) if (seconds >= size) return `${Math.round(seconds / size)} ${unit} ago`;
  return seconds >= 5 ? `${Math.round(seconds)} s ago` : "just now";
}

function growOlder() {
  for (const element of document.querySelectorAll("[data-at]")) {
    element.textContent = `(${ago((Date.now() - Date.parse(element.dataset.at)) / 1000)})`;
  }
}
setInterval(growOlder, 10000);

// Dialogs

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) open(document.getElementById(opener.dataset.opens), opener.dataset.version);
  if (event.target.closest("[data-closes]")) event.target.closest("dialog").close();
});

function open(dialog, version) {
  const form = dialog.querySelector("form");
  form.reset();
  dialog.querySelector(".outcome").replaceChildren();
  // what the page shows now goes with the act: if it is no longer so, the server refuses
  const shown = { ...document.getElementById("seen")?.dataset, version: version || "" };
  for (const name of ["version", "seen", "to"]) if (form.elements[name]) form.elements[name].value = shown[name] || "";
  for (const element of dialog.querySelectorAll("[data-shows]")) element.textContent = shown[element.dataset.shows];
  dialog.showModal();
}

// Parts that the server renders anew: what was folded out stays so, and what cannot be had is said

let unfolded = [];
document.body.addEventListener("htmx:beforeSwap", (event) => {
  unfolded = [...event.detail.target.querySelectorAll("details[open]")].map((element) => element.id);
});
document.body.addEventListener("htmx:afterSwap", (event) => {
  for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
  drawAll(event.detail.target);
});
for (const kind of ["htmx:responseError", "htmx:sendError"]) {
  document.body.addEventListener(kind, (event) => {
    const outcome = event.detail.elt.closest?.("dialog")?.querySelector(".outcome");
    if (!outcome) return;
    const status = event.detail.xhr?.status;
    const text = new DOMParser().parseFromString(event.detail.xhr?.responseText || "", "text/html").querySelector("main p");
    const said = document.createElement("p");
    said.className = "bad";
    said.setAttribute("role", "alert");
    said.textContent = text?.textContent || `The request failed (${status || "no response"}).`;
    outcome.replaceChildren(said);
  });
}

// Whether the page is live

function live(text, kind) {
  const element = document.getElementById("connection");
  if (!element || element.dataset.kind === kind) return;
  element.textContent = text;
  element.dataset.kind = kind;
}
document.body.addEventListener("htmx:sseOpen", () => live("live", "good"));
document.body.addEventListener("htmx:sseError", () => live("connection lost; reconnecting", "bad"));

showTheme();
