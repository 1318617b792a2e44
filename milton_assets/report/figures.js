"use strict";
// Hands a picture's Vega-Lite specification, which stands in the page, over as a file.
for (const button of document.querySelectorAll("button.spec")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const figure = button.closest("figure");
    const text = figure.querySelector("script").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `${figure.id}.vl.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
