"use strict";
// Boxes over an image: the model's are accepted or rejected, missing ones are drawn, moved, resized and deleted.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const STEP = 0.01; // of the image's longer side, for each press of an arrow key
  const SMALLEST = 0.01;

  const picture = () => document.querySelector("#labelling svg.asked");
  const form = () => document.querySelector("#labelling form");
  const list = () => form().querySelector(".drawn ul");
  const width = () => Number(picture().dataset.width);
  const height = () => Number(picture().dataset.height);
  const side = () => Math.max(width(), height());

  const inside = (value, most) => Math.min(Math.max(value, 0), most);
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture().getScreenCTM().inverse());
    return [inside(point.x, width()), inside(point.y, height())];
  };

  // What is drawn: each box an item of the list (its controls and what is sent) and a group in the picture.
  const boxes = new Map();
  const between = ([x1, y1], [x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];

  const show = (name) => {
    const { box, group, item } = boxes.get(name);
    const [x1, y1, x2, y2] = box.map((value) => Math.round(value * 100) / 100);
    for (const rect of group.querySelectorAll("rect.under, rect.line")) {
      for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) rect.setAttribute(key, value);
    }
    const grip = group.querySelector(".grip"), size = side() / 30;
    for (const [key, value] of Object.entries({ x: x2 - size / 2, y: y2 - size / 2, width: size, height: size })) grip.setAttribute(key, value);
    const text = group.querySelector("text");
    text.setAttribute("x", x1 + side() / 120);
    text.setAttribute("y", y1 + side() / 24);
    const kind = Number(item.querySelector("select")?.value ?? 0);
    item.querySelector("input").value = JSON.stringify({ class: kind, box: [x1, y1, x2, y2] });
    const [left, top, wide, high] = [x1, y1, x2 - x1, y2 - y1].map(Math.round);
    item.querySelector(".move").setAttribute("aria-label", `Drawn box ${name}, ${wide} by ${high} pixels at ${left}, ${top}`);
  };

  const element = (tag, attributes, parent) => {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };

  const add = (box) => {
    let name = 0;
    do { name += 1; } while (boxes.has(letter(name)));
    name = letter(name);
    const group = element("g", { class: "box drawn", "data-name": name }, picture());
    element("rect", { class: "under" }, group);
    element("rect", { class: "line" }, group);
    element("text", { "font-size": side() / 24 }, group).textContent = name;
    element("rect", { class: "grip" }, group);
    const item = document.createElement("li");
    const sent = Object.assign(document.createElement("input"), { type: "hidden", name: "drawn" });
    const move = Object.assign(document.createElement("button"), { type: "button", className: "move", textContent: `Box ${name}` });
    const away = Object.assign(document.createElement("button"), { type: "button", className: "quiet away", textContent: "Delete" });
    away.setAttribute("aria-label", `Delete drawn box ${name}`);
    item.dataset.name = name;
    item.append(sent, move, ...kinds(name), away);
    list().append(item);
    boxes.set(name, { box, group, item });
    show(name);
    count();
    return name;
  };

  const letter = (number) => (number > 26 ? letter(Math.floor((number - 1) / 26)) : "") + String.fromCharCode(65 + (number - 1) % 26);

  const kinds = (name) => {
    const names = JSON.parse(form().querySelector(".drawn").dataset.classes);
    if (names.length < 2) return [];
    const select = document.createElement("select");
    select.setAttribute("aria-label", `Class of drawn box ${name}`);
    names.forEach((kind, index) => select.append(new Option(kind, index)));
    return [select];
  };

  const remove = (name) => {
    boxes.get(name).group.remove();
    boxes.get(name).item.remove();
    boxes.delete(name);
    count();
    form().querySelector(".add").focus();
  };

  const moved = ([x1, y1, x2, y2], dx, dy) => {
    const x = inside(x1 + dx, width() - (x2 - x1)), y = inside(y1 + dy, height() - (y2 - y1));
    return [x, y, x + x2 - x1, y + y2 - y1];
  };
  const resized = ([x1, y1, x2, y2], dx, dy) => {
    const least = Math.max(1, SMALLEST * side());
    return [x1, y1, Math.min(Math.max(x2 + dx, x1 + least), width()), Math.min(Math.max(y2 + dy, y1 + least), height())];
  };

  // What will be saved, in the words of the button.
  const count = () => {
    const found = [...form().querySelectorAll("input[name=box]")];
    const kept = found.filter((input) => input.checked).length, all = kept + boxes.size;
    for (const input of found) {
      picture().querySelector(`[data-row="${input.value}"]`).classList.toggle("rejected", !input.checked);
    }
    const said = all === 0 ? "Save: no objects" : `save ${all} ${all === 1 ? "box" : "boxes"}`;
    const untouched = kept === found.length && boxes.size === 0 && all > 0;
    form().querySelector(".save span").textContent = all === 0 ? said : untouched ? `Correct, ${said}` : said[0].toUpperCase() + said.slice(1);
  };

  const hold = { from: null, name: null, how: null, was: null, sketch: null };
  const begin = (event) => {
    const drawn = event.target.closest("g.drawn");
    if (event.button !== 0 || (!drawn && event.pointerType === "touch")) return;
    hold.from = at(event);
    hold.screen = [event.clientX, event.clientY];
    hold.name = drawn?.dataset.name ?? null;
    hold.how = drawn && event.target.classList.contains("grip") ? resized : moved;
    hold.was = drawn ? boxes.get(hold.name).box : null;
    hold.row = event.target.closest("g[data-row]")?.dataset.row;
    picture().setPointerCapture(event.pointerId);
    event.preventDefault();
  };
  const drag = (event) => {
    if (!hold.from) return;
    const to = at(event);
    const [x, y] = hold.screen;
    if (!hold.sketch && !hold.was && Math.hypot(event.clientX - x, event.clientY - y) < 4) return;
    if (hold.was) {
      boxes.get(hold.name).box = hold.how(hold.was, to[0] - hold.from[0], to[1] - hold.from[1]);
      return show(hold.name);
    }
    hold.sketch ??= element("rect", { class: "sketch" }, picture());
    const [x1, y1, x2, y2] = between(hold.from, to);
    for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) hold.sketch.setAttribute(key, value);
  };
  const end = (event) => {
    if (!hold.from) return;
    const box = between(hold.from, at(event));
    if (hold.sketch && box[2] - box[0] >= 1 && box[3] - box[1] >= 1) {
      boxes.get(add(box)).item.querySelector(".move").focus();
    } else if (!hold.sketch && !hold.was && hold.row !== undefined) {
      form().querySelector(`input[name=box][value="${hold.row}"]`).click();
    }
    hold.sketch?.remove();
    Object.assign(hold, { from: null, name: null, how: null, was: null, sketch: null });
  };

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const keys = (event) => {
    const name = event.target.closest("li[data-name]")?.dataset.name;
    if (!name || !event.target.classList.contains("move")) return;
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      return remove(name);
    }
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const [dx, dy] = ARROWS[event.key].map((direction) => direction * STEP * side());
    boxes.get(name).box = (event.shiftKey ? resized : moved)(boxes.get(name).box, dx, dy);
    show(name);
  };

  const light = (event, on) => {
    const input = event.target.closest?.("input[name=box]"), name = event.target.closest?.("li[data-name]")?.dataset.name;
    const group = input ? picture().querySelector(`[data-row="${input.value}"]`) : name && boxes.get(name)?.group;
    group?.classList.toggle("lit", on);
  };

  // Each image that arrives is set up once.
  const arrive = () => {
    if (!picture() || !form() || picture().dataset.ready) return;
    picture().dataset.ready = "1";
    boxes.clear();
    form().querySelector(".add").hidden = false;
    form().addEventListener("change", (event) => {
      const name = event.target.closest("li[data-name]")?.dataset.name;
      if (name) show(name);
      count();
    });
    form().addEventListener("click", (event) => {
      if (event.target.closest(".away")) remove(event.target.closest("li").dataset.name);
      if (event.target.closest(".add")) {
        const [w, h] = [width(), height()];
        boxes.get(add([w * 0.375, h * 0.375, w * 0.625, h * 0.625])).item.querySelector(".move").focus();
      }
    });
    form().addEventListener("keydown", keys);
    form().addEventListener("focusin", (event) => light(event, true));
    form().addEventListener("focusout", (event) => light(event, false));
    picture().addEventListener("pointerdown", begin);
    picture().addEventListener("pointermove", drag);
    picture().addEventListener("pointerup", end);
    picture().addEventListener("pointercancel", end);
    count();
  };
  document.addEventListener("DOMContentLoaded", arrive);
  document.addEventListener("htmx:afterSettle", arrive);
})();
