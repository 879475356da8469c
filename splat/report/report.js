"use strict";
document.documentElement.classList.add("scripted");
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Sliders: an invisible range input lies over the pictures, so that mouse, touch and keyboard all work.
for (const slider of all(".slider")) {
  const input = slider.querySelector("input");
  const show = () => slider.style.setProperty("--cut", input.value + "%");
  input.addEventListener("input", show);
  show();
}

// One view at a time, chosen in the strip or in the table.
const choose = (view) => {
  for (const element of all("[data-view]")) {
    const chosen = element.dataset.view === view;
    element.classList.toggle("chosen", chosen);
    if (element.matches("button")) element.setAttribute("aria-pressed", chosen);
  }
};
for (const button of all("button[data-view]")) button.addEventListener("click", () => choose(button.dataset.view));
for (const row of all("tr[data-view]")) {
  const show = () => {
    choose(row.dataset.view);
    document.getElementById("views")?.scrollIntoView({ behavior: "smooth" });
  };
  row.addEventListener("click", show);
  row.addEventListener("keydown", (event) => event.key === "Enter" && show());
}
choose("0");

// Curves over steps or over time.
for (const button of all("button[data-axis]")) {
  button.addEventListener("click", () => {
    document.getElementById("curves").dataset.axis = button.dataset.axis;
    for (const other of all("button[data-axis]")) other.setAttribute("aria-pressed", other === button);
  });
}

// The value under the pointer.
for (const chart of all(".chart")) {
  const points = JSON.parse(chart.dataset.points);
  const output = chart.closest("figure").querySelector("output");
  const [cursor, line, dot] = [".cursor", ".cursor line", ".cursor circle"].map((s) => chart.querySelector(s));
  const last = output.textContent;
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    const [px, py, label] = points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
    line.setAttribute("x1", px);
    line.setAttribute("x2", px);
    dot.setAttribute("cx", px);
    dot.setAttribute("cy", py);
    cursor.style.visibility = "visible";
    output.textContent = label;
  });
  chart.addEventListener("pointerleave", () => {
    cursor.style.visibility = "hidden";
    output.textContent = last;
  });
}

// Sort the table: numbers from best to worst and back, names from A to Z and back.
all("thead button").forEach((button, column) => {
  let direction = column ? -1 : 1;
  button.addEventListener("click", () => {
    const body = button.closest("table").tBodies[0];
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => (column ? value(a) - value(b) : value(a).localeCompare(value(b), undefined, { numeric: true }));
    body.append(...[...body.rows].sort((a, b) => direction * order(a, b)));
    direction = -direction;
  });
});
