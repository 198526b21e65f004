// The picture to begin with, how much of it is made anew, and where.
// value: {image, mask, strength}: the picture by the name that the server gave it, the mask inline, as PNG
(() => {
  const { make, painter, shape } = window.medley;

  const NAMED = "held:";
  const address = (image) => (image.startsWith(NAMED) ? `medley/held/${image.slice(NAMED.length)}.png` : image);

  // The server keeps the picture and names it: what the page sends later holds the name, not the pixels.
  const send = async (file) => {
    const answer = await fetch("medley/held", { method: "POST", body: file });
    if (!answer.ok) throw new Error(await answer.text());
    return (await answer.json()).name;
  };

  window.medley.parts.start = (element, props, trigger, watch) => {
    const set = (fields) => {
      props.value = { ...props.value, ...fields };
      draw();
    };

    const file = make("input", { type: "file", accept: "image/*", class: "m-file", "aria-label": "Picture to begin with" });
    const pick = make("label", { class: "m-chip m-pickfile" }, "Choose a picture…", file);
    const drop = make("button", { type: "button", class: "m-chip", onclick: () => set({ image: null, mask: null }) }, "Take it away");
    const wrong = make("p", { class: "m-note m-error", role: "alert" });
    const picture = make("img", { alt: "The picture to begin with" });
    const mask = painter((painted) => (props.value = { ...props.value, mask: painted }));
    const frame = make("div", { class: "m-frame" }, picture, mask.view);
    const range = make("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": "How much is made anew, slider" });
    const number = make("input", { type: "number", min: 0, max: 1, step: 0.01, "aria-label": "How much is made anew, from 0 to 1" });
    const strength = make("div", { class: "m-slider m-wideslider" }, make("span", { "aria-hidden": "true" }, "made anew"), range, number);
    const help = make("p", { class: "m-note" }, "0 keeps the picture, 1 hides it. Paint where it is to be made anew; nothing painted: all of it. Its size is the picture's unless you name one.");
    const rest = make("div", {}, strength, frame, mask.tools, help);
    element.append(make("div", { class: "m-tools" }, pick, drop), wrong, rest);

    range.addEventListener("input", () => (number.value = range.value));
    range.addEventListener("change", () => set({ strength: Number(range.value) }));
    number.addEventListener("change", () => number.value !== "" && set({ strength: Number(number.value) }));

    const take = async (given) => {
      if (!given) return;
      try {
        const image = await send(given);
        wrong.textContent = "";
        set({ image, mask: null });
      } catch (error) {
        wrong.textContent = `${given.name}: ${error.message}`;
      }
    };
    file.addEventListener("change", () => {
      const [given] = file.files;
      file.value = "";
      take(given);
    });
    element.addEventListener("dragover", (event) => event.preventDefault());
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    });

    const draw = () => {
      const now = props.value || {};
      rest.hidden = drop.hidden = !now.image;
      if (!now.image) return picture.removeAttribute("src");
      range.value = number.value = now.strength;
      const show = () => {
        const [width, height] = [picture.naturalWidth, picture.naturalHeight];
        shape(frame, width, height);
        mask.show({ mask: props.value.mask, width, height, label: "the picture to begin with", colour: "#be185d" });
      };
      if (picture.getAttribute("src") === address(now.image)) return show();
      picture.onload = show;
      picture.onerror = () => (wrong.textContent = "This picture is not here any more; choose it again.");
      picture.src = address(now.image);
    };
    watch("value", draw);
    draw();
  };
})();
