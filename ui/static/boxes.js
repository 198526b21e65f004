// Where each LoRA belongs: a frame of the picture's shape in which boxes are drawn or masks are painted, and the same
// boxes in numbers.
// value: {shown, width, height}
(() => {
  const { make, tell, hear, painter, shape } = window.medley;
  const SIDES = ["left", "top", "right", "bottom"];
  const LEAST = 0.05; // of the frame; a smaller box is a slip of the hand

  window.medley.parts.boxes = (element, props, trigger, watch) => {
    let uses = [];
    let active = 0;
    let painting = false;
    let from = null;
    const help = make("p", { class: "m-note" });
    const frame = make("div", { class: "m-frame" });
    const ways = make("div", { class: "m-chips", role: "group", "aria-label": "How a LoRA's place is given" });
    const rows = make("div", { class: "m-boxes" });

    const send = () => tell("boxes", uses.map((use) => ({ box: use.box ?? null, mask: use.mask ?? null, region_prompt: use.region_prompt ?? null })));
    const change = (place, fields) => {
      uses = uses.map((use, n) => (n === place ? { ...use, ...fields } : use));
      send();
    };
    const mask = painter((painted) => change(active, { mask: painted, box: null }));
    const layers = make("div", { class: "m-layers", role: "img" });
    frame.append(layers, mask.view);
    element.append(help, ways, frame, mask.tools, rows);

    const at = (event) => {
      const area = frame.getBoundingClientRect();
      const share = (value, size) => Math.min(1, Math.max(0, Math.round((value / size) * 100) / 100));
      return [share(event.clientX - area.left, area.width), share(event.clientY - area.top, area.height)];
    };
    const box = (to) => [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
    frame.addEventListener("pointerdown", (event) => {
      if (!uses.length || painting) return;
      from = at(event);
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => {
      if (!from) return;
      const now = box(at(event));
      uses = uses.map((use, n) => (n === active ? { ...use, box: now, mask: null } : use));
      layer();
    });
    frame.addEventListener("pointerup", (event) => {
      if (!from) return;
      const now = box(at(event));
      from = null;
      change(active, { box: now[2] - now[0] >= LEAST && now[3] - now[1] >= LEAST ? now : null, mask: null });
    });

    const drawn = (use, place) => {
      const colour = window.medley.colour(place);
      if (use.mask) {
        if (painting && place === active) return []; // the painter shows it
        return [make("div", { class: "m-masked", style: { background: colour, maskImage: `url("${use.mask}")` } })];
      }
      if (!use.box) return [];
      const [left, top, right, bottom] = use.box.map((side) => `${side * 100}%`);
      const style = { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})`, borderColor: colour };
      return [make("div", { class: "m-box", style }, make("span", { style: { background: colour } }, use.label || use.name))];
    };

    const told = (use) => {
      if (use.mask) return `${use.name}: a painted mask`;
      return use.box ? `${use.name}: ${SIDES.map((side, n) => `${side} ${Math.round(use.box[n] * 100)} %`).join(", ")}` : `${use.name}: everywhere`;
    };

    const layer = () => {
      layers.setAttribute("aria-label", `Places in the picture. ${uses.map(told).join("; ")}`);
      layers.replaceChildren(...uses.flatMap(drawn));
    };

    const numbers = (use, place) =>
      SIDES.map((side, n) => {
        const value = use.box ? Math.round(use.box[n] * 100) : "";
        const input = make("input", { type: "number", min: 0, max: 100, value, placeholder: side, "aria-label": `${side} of ${use.name}, percent` });
        input.addEventListener("change", () => {
          const given = [...input.parentElement.querySelectorAll('input[type="number"]')].map((one) => one.value);
          if (given.every((one) => one === "")) change(place, { box: null });
          else if (given.every((one) => one !== "")) change(place, { box: given.map((one) => Number(one) / 100), mask: null });
        });
        return input;
      });

    const row = (use, place) => {
      const pick = make(
        "button",
        {
          type: "button",
          class: "m-chip",
          "aria-pressed": String(place === active),
          style: { borderColor: window.medley.colour(place) },
          onclick: () => ((active = place), draw()),
        },
        use.label || use.name
      );
      const clear = make("button", { type: "button", class: "m-remove", "aria-label": `${use.name} everywhere`, title: "Everywhere", onclick: () => change(place, { box: null, mask: null }) }, "×");
      const says = make("input", { type: "text", class: "m-there", value: use.region_prompt || "", maxlength: 2000, placeholder: "what is there; empty: the prompt", "aria-label": `Prompt of the ${use.mask ? "mask" : "box"} of ${use.name}` });
      says.addEventListener("change", () => change(place, { region_prompt: says.value || null }));
      const where = painting || use.mask ? [make("span", { class: "m-facts" }, use.mask ? "painted" : use.box ? "a box" : "everywhere")] : numbers(use, place);
      return make("div", { class: "m-boxrow" }, pick, ...where, clear, says);
    };

    const way = (text, paints) =>
      make("button", { type: "button", class: "m-chip", "aria-pressed": String(painting === paints), onclick: () => ((painting = paints), draw()) }, text);

    const draw = () => {
      const { shown, width, height } = props.value;
      element.hidden = !shown || !uses.length;
      if (element.hidden) return;
      active = Math.min(active, uses.length - 1);
      help.textContent = painting
        ? "Choose a LoRA, then paint where it belongs, or take a mask from a file: white is inside. Unpainted, it acts everywhere."
        : "Choose a LoRA, then draw its box or type it in percent. Without a box it acts everywhere.";
      ways.replaceChildren(way("Draw boxes", false), way("Paint masks", true));
      shape(frame, width, height);
      mask.view.hidden = mask.tools.hidden = !painting;
      const use = uses[active];
      if (painting) mask.show({ mask: use.mask ?? null, width, height, label: use.name, colour: window.medley.colour(active) });
      rows.replaceChildren(...uses.map(row));
      layer();
    };

    hear("chosen", (next) => {
      uses = next;
      draw();
    });
    watch("value", draw);
    draw();
    tell("cards-ready");
  };
})();
