// A mask painted by hand: white where something is, black elsewhere. With the mouse, a finger, the keyboard, or a file.
(() => {
  const { make } = window.medley;
  const LEAST = 256; // pixels of the longer side: small pictures are painted on finer paper than they have
  const MOST = 1024;
  const FRAME = 380; // pixels on the screen

  const loaded = (address) =>
    new Promise((done, failed) => {
      const image = new Image();
      image.onload = () => done(image);
      image.onerror = () => failed(new Error("this is no picture that the browser can read"));
      image.src = address;
    });
  window.medley.loaded = loaded;

  // A frame of a picture's shape, neither too wide nor too high for the page.
  window.medley.shape = (frame, width, height) => {
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.width = `min(100%, ${Math.round(Math.min(FRAME, (FRAME * width) / height))}px)`;
  };

  // A mask's own size: the proportions of the picture, to the pixel as far as the limits allow.
  const paper = (width, height) => {
    const scale = Math.min(MOST / Math.max(width, height), Math.max(1, LEAST / Math.max(width, height)));
    return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  };

  const sheet = (width, height) => {
    const canvas = make("canvas", { width, height });
    return [canvas, canvas.getContext("2d", { willReadFrequently: true })];
  };

  // Grey values become how opaque the ink is.
  const inked = (image, width, height) => {
    const [canvas, pen] = sheet(width, height);
    pen.imageSmoothingEnabled = image.naturalWidth > width;
    pen.drawImage(image, 0, 0, width, height);
    const grid = pen.getImageData(0, 0, width, height);
    for (let at = 0; at < grid.data.length; at += 4) {
      const grey = 0.299 * grid.data[at] + 0.587 * grid.data[at + 1] + 0.114 * grid.data[at + 2];
      grid.data.set([255, 255, 255, Math.round(grey)], at);
    }
    pen.putImageData(grid, 0, 0);
    return canvas;
  };

  // tell(mask): an address that holds the mask as PNG; null: nothing is painted
  window.medley.painter = (tell) => {
    let [ink, inkPen] = sheet(LEAST, LEAST);
    let shown = { mask: null, width: 1, height: 1, label: "", colour: "#000" };
    let brush = 0.12; // of the longer side
    let erasing = false;
    let last = null;
    let at = [0.5, 0.5]; // the keyboard's brush, as parts of width and height
    let newest = 0;

    const view = make("canvas", { class: "m-paint", role: "application", tabindex: "0" });
    const size = make("input", { type: "range", min: 0.02, max: 0.4, step: 0.01, value: brush, "aria-label": "Size of the brush" });
    size.addEventListener("input", () => ((brush = Number(size.value)), paint()));
    const way = (text, erases) =>
      make("button", { type: "button", class: "m-chip", "data-erases": String(erases), onclick: () => ((erasing = erases), press()) }, text);
    const ways = [way("Paint", false), way("Erase", true)];
    const press = () => ways.forEach((one) => one.setAttribute("aria-pressed", String((one.dataset.erases === "true") === erasing)));
    const wrong = make("p", { class: "m-note m-error", role: "alert" });
    const file = make("input", { type: "file", accept: "image/*", class: "m-file", "aria-label": "A mask from a file" });
    const whole = make("button", { type: "button", class: "m-chip", onclick: () => cover(true) }, "All");
    const none = make("button", { type: "button", class: "m-chip", onclick: () => cover(false) }, "Nothing");
    const tools = make("div", { class: "m-tools" }, ...ways, whole, none, make("label", { class: "m-brush" }, "brush", size), make("label", { class: "m-chip m-pickfile" }, "From a file…", file), wrong);

    const pixels = () => brush * Math.max(ink.width, ink.height);

    const paint = () => {
      view.width = ink.width;
      view.height = ink.height;
      const pen = view.getContext("2d");
      pen.drawImage(ink, 0, 0);
      pen.globalCompositeOperation = "source-in";
      view.style.color = shown.colour; // which may be a variable of the page, unknown to a canvas
      pen.fillStyle = getComputedStyle(view).color;
      pen.fillRect(0, 0, view.width, view.height);
      pen.globalCompositeOperation = "source-over";
      if (document.activeElement !== view || !view.matches(":focus-visible")) return;
      for (const [colour, line] of [["#000", 3], ["#fff", 1]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = (line * ink.width) / Math.max(1, view.clientWidth);
        pen.beginPath();
        pen.arc(at[0] * ink.width, at[1] * ink.height, pixels() / 2, 0, 7);
        pen.stroke();
      }
    };

    const mask = () => {
      const [canvas, pen] = sheet(ink.width, ink.height);
      pen.drawImage(ink, 0, 0);
      const grid = pen.getImageData(0, 0, ink.width, ink.height);
      let some = false;
      for (let place = 0; place < grid.data.length; place += 4) {
        const alpha = grid.data[place + 3];
        some ||= alpha > 0;
        grid.data.set([alpha, alpha, alpha, 255], place);
      }
      pen.putImageData(grid, 0, 0);
      return some ? canvas.toDataURL("image/png") : null;
    };

    const send = () => {
      newest += 1;
      shown = { ...shown, mask: mask() };
      tell(shown.mask);
    };

    const stroke = (from, to) => {
      inkPen.globalCompositeOperation = erasing ? "destination-out" : "source-over";
      inkPen.strokeStyle = "#fff";
      inkPen.lineCap = inkPen.lineJoin = "round";
      inkPen.lineWidth = pixels();
      inkPen.beginPath();
      inkPen.moveTo(from[0] * ink.width, from[1] * ink.height);
      inkPen.lineTo(to[0] * ink.width + 0.01, to[1] * ink.height);
      inkPen.stroke();
      paint();
    };

    const cover = (all) => {
      inkPen.globalCompositeOperation = "source-over";
      inkPen.clearRect(0, 0, ink.width, ink.height);
      inkPen.fillStyle = "#fff";
      if (all) inkPen.fillRect(0, 0, ink.width, ink.height);
      paint();
      send();
    };

    const place = (event) => {
      const area = view.getBoundingClientRect();
      return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
    };
    view.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      view.focus({ focusVisible: false });
      view.setPointerCapture(event.pointerId);
      last = place(event);
      stroke(last, last);
    });
    view.addEventListener("pointermove", (event) => {
      if (!last) return;
      const now = place(event);
      stroke(last, now);
      last = now;
    });
    for (const end of ["pointerup", "pointercancel"])
      view.addEventListener(end, () => {
        if (!last) return;
        last = null;
        send();
      });

    const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    view.addEventListener("keydown", (event) => {
      const move = MOVES[event.key];
      if (!move && event.key !== " ") return;
      event.preventDefault();
      const from = at;
      if (move) at = at.map((value, axis) => Math.min(1, Math.max(0, value + (move[axis] * brush) / 3)));
      if (!move || event.shiftKey) {
        stroke(from, at);
        send();
      } else paint();
    });
    view.addEventListener("focus", paint);
    view.addEventListener("blur", paint);

    const take = async (address) => {
      const mine = (newest += 1);
      const image = address ? await loaded(address) : null;
      if (mine !== newest) return false; // something newer has come
      inkPen.globalCompositeOperation = "source-over";
      inkPen.clearRect(0, 0, ink.width, ink.height);
      if (image) inkPen.drawImage(inked(image, ink.width, ink.height), 0, 0);
      paint();
      return true;
    };

    file.addEventListener("change", async () => {
      const [given] = file.files;
      file.value = "";
      if (!given) return;
      const address = URL.createObjectURL(given);
      try {
        wrong.textContent = "";
        if (await take(address)) send();
      } catch (error) {
        wrong.textContent = `${given.name}: ${error.message}`;
      } finally {
        URL.revokeObjectURL(address);
      }
    });

    // A mask for a picture of another shape is stretched to it, as boxes are.
    const show = (next) => {
      const before = shown;
      shown = { ...shown, ...next };
      view.setAttribute("aria-label", `Mask of ${shown.label}: arrow keys move the brush, with Shift they paint, Space paints one spot`);
      const [width, height] = paper(shown.width, shown.height);
      const reshaped = width !== ink.width || height !== ink.height;
      if (reshaped) [ink, inkPen] = sheet(width, height);
      if (!reshaped && shown.mask === before.mask) return paint();
      take(shown.mask)
        .then((done) => done && reshaped && shown.mask && before.mask === shown.mask && send())
        .catch((error) => (wrong.textContent = error.message));
    };

    press();
    return { view, tools, show };
  };
})();
