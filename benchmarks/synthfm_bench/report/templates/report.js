"use strict";

// Tables: a click on a heading sorts by that column, a second one turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const numeric = [...table.tBodies[0].rows].some((row) => row.cells[column].classList.contains("number"));
      const before = heading.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numeric;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(a.cells[column].dataset.value, b.cells[column].dataset.value, numeric, down));
      table.tBodies[0].append(...rows);
    });
  });
}

function compare(a, b, numeric, down) {
  if (a === "" || b === "") return (a === "") - (b === "");  // what has no figure stands last either way
  const order = numeric ? Number(a) - Number(b) : a.localeCompare(b);
  return down ? -order : order;
}

// Charts.
JSON.parse(document.getElementById("charts").textContent).forEach((figure, index) => {
  const narrow = window.innerWidth < 600;
  if (narrow) figure.layout.height += 22 * figure.data.filter((trace) => trace.name).length;
  Plotly.newPlot(`chart-${index}`, figure.data, figure.layout, {
    responsive: true,
    displaylogo: false,
    displayModeBar: narrow ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
});

// Gallery: the slider shows the mask after so many clicks.
for (const film of document.querySelectorAll(".film")) {
  const slider = film.querySelector("input");
  const output = film.querySelector("output");
  const dices = film.dataset.dices.split(" ").map(Number);
  const signs = film.dataset.signs.split(" ");
  const show = () => {
    const clicks = Number(slider.value);
    film.querySelectorAll(".step").forEach((step) => {
      step.style.display = Number(step.dataset.step) === clicks ? "inline" : "none";
    });
    film.querySelectorAll(".click").forEach((click) => {
      click.style.display = Number(click.dataset.step) <= clicks ? "inline" : "none";
    });
    output.textContent = `${clicks} (${signs[clicks - 1]}): Dice ${dices[clicks - 1].toFixed(3)}`;
  };
  slider.addEventListener("input", show);
  show();
}
